"""The Python example of the serving page, against a real server."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from serving import Running

from rekindle.hub.names import BUNDLED
from rekindle.runtime import open_session

pytest.importorskip("tritonclient", reason="tritonclient is not installed")

PAGE = Path(__file__).parents[2] / "docs" / "pages" / "serving.md"


def test_the_example_runs_and_prints_what_the_model_says(
    start: Callable[..., Running], capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert '"127.0.0.1:8001"' in code
    server = start(BUNDLED, max_batch=1)
    exec(compile(code.replace("127.0.0.1:8001", server.grpc), str(PAGE), "exec"), {})
    printed = capsys.readouterr().out
    model = BUNDLED / "cifar10-resnet" / "1" / "model.onnx"
    with open_session(model, provider="onnxruntime") as session:
        expected = session.run({"image": np.zeros((1, 3, 32, 32), np.float32)})["logits"]
    found = np.array(re.findall(r"-?\d+\.\d+(?:e[+-]\d+)?", printed), np.float32)
    np.testing.assert_allclose(found, expected.ravel(), rtol=1e-4, atol=1e-5)
