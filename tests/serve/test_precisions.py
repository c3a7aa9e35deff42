"""One model in several precisions: each loaded when asked for, all of them accounted."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from colours import put_colours
from PIL import Image
from serving import Running

from rekindle import _errors
from rekindle.serve import InferRequest

pytestmark = pytest.mark.opencl


@pytest.fixture
def server(start: Callable[..., Running], tmp_path: Path) -> Running:
    put_colours(tmp_path)
    return start(
        tmp_path, provider="opencl", threads=None, precisions=("fp16",), max_batch=1,
        allow_model_control=True,
    )  # fmt: skip


def classify(server: Running, **fields: str) -> urllib3.BaseHTTPResponse:
    picture = io.BytesIO()
    Image.new("RGB", (16, 12), (200, 90, 30)).save(picture, "PNG")
    form: dict[str, Any] = dict(fields) | {"photo": ("p.png", picture.getvalue(), "image/png")}
    return urllib3.request("POST", f"http://{server.http}/classify", fields=form, timeout=120)


def test_a_precision_is_loaded_when_asked_for_and_goes_with_its_model(server: Running) -> None:
    fleet = server.plane.fleet
    (slot,) = fleet.slots()
    alone = fleet.budget.used
    exact, half = classify(server).json(), classify(server, precision="fp16").json()
    assert (exact["precision"], half["precision"]) == ("model", "fp16")
    scores = [np.array([label["score"] for label in a["labels"]]) for a in (exact, half)]
    np.testing.assert_allclose(scores[1], scores[0], rtol=5e-3)
    assert (scores[0] != scores[1]).any()  # it really is another one
    variant = slot.variants["fp16"]
    assert variant.instance is not None
    held = fleet.budget.holding(variant.key).nbytes
    assert fleet.budget.used == fleet.budget.holding(slot.key).nbytes + held > alone
    classify(server, precision="fp16")
    assert slot.variants["fp16"] is variant  # loaded once
    server.do(fleet.unload("colours"))
    assert fleet.budget.used == 0
    assert variant.instance is None


def test_what_is_not_offered_is_refused_with_what_is(server: Running) -> None:
    refused = classify(server, precision="int8w")
    assert refused.status == 400
    assert "it has model, fp16" in refused.json()["error"]
    assert classify(server, precision="model").status == 200
    with pytest.raises(_errors.InputError, match="does not offer the precision 'int4w'"):
        server.do(server.plane.infer(InferRequest("colours", {}, precision="int4w")))
