"""`--memory-limit` on the commands that run a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from tests.engine.graphs import chain, write

Run = Callable[..., Result]
Document = Callable[..., dict[str, Any]]
pytestmark = pytest.mark.opencl

LIMIT = 100_000
"""The nine layers below have 149,760 bytes."""


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(chain(layers=9), tmp_path_factory.mktemp("chain"))


def test_run(rekindle: Run, document: Document, long: Path, tmp_path: Path) -> None:
    files = tmp_path / "free.npz", tmp_path / "tight.npz"
    free = document(
        rekindle("run", long, "--shape", "N=2", "-o", files[0], "--provider", "opencl", "--json")
    )
    assert free["streaming"] is None
    assert free["device_bytes"] > 149_760
    limited = ("run", long, "--shape", "N=2", "-o", files[1], "--memory-limit", LIMIT)
    tight = document(rekindle(*limited, "--json"))
    assert tight["reason"] == "a memory limit was asked for"
    assert 0 < tight["device_bytes"] <= LIMIT
    assert tight["streaming"]["limit_bytes"] == LIMIT
    assert 50_000 < tight["streaming"]["streamed_bytes"] < 149_760
    np.testing.assert_array_equal(np.load(files[0])["y"], np.load(files[1])["y"])
    assert "within 97.7 KiB: 0.1 MB of weights streamed in each run" in rekindle(*limited).stdout


def test_bench(rekindle: Run, document: Document, long: Path) -> None:
    quick = ("--shape", "N=2", "--repeats", 2, "--warmup", 0)
    command = ("bench", long, *quick, "--memory-limit", "100KB")
    found = document(rekindle(*command, "--json"))
    assert found["memory_limit"] == "100KB"
    ours, theirs = found["results"]
    assert 0 < ours["device_bytes"] <= LIMIT
    assert ours["streamed_bytes"] > 50_000
    assert ours["argmax_agreement"] == 1
    assert (theirs["device_bytes"], theirs["streamed_bytes"]) == (None, 0)
    page = rekindle(*command).stdout
    assert "opencl streams" in page
    assert "of weights in each run" in page
    assert "`auto` remembers" not in page
    refused = rekindle("bench", long, *quick, "-p", "onnxruntime", "--memory-limit", "100KB")
    assert refused.exit_code == 2
    assert "cannot honour memory_limit" in refused.stderr


def test_verify(rekindle: Run, document: Document, long: Path) -> None:
    found = document(rekindle("verify", long, "--shape", "N=2", "--memory-limit", LIMIT, "--json"))
    assert found["agrees"]
    refused = rekindle("verify", long, "--shape", "N=2", "--memory-limit", 9_000)
    assert refused.exit_code == 7
    assert "the limit is 9,000" in refused.stderr


def test_inspect(rekindle: Run, document: Document, long: Path) -> None:
    limited = ("inspect", long, "--target", "rx580", "--memory-limit", LIMIT)
    plan = document(rekindle(*limited, "--json"))["plan"]
    streaming = plan["streaming"]
    assert streaming["streamed_bytes"] + streaming["resident_bytes"] == plan["weight_bytes"]
    assert streaming["resident_bytes"] + streaming["staging_bytes"] < LIMIT
    assert "streamed in each run" in rekindle(*limited).stdout


def test_classify(rekindle: Run, document: Document, model: Path, photos: Path) -> None:
    arguments = ("classify", photos / "red.png", "--model", model)
    found = document(rekindle(*arguments, "--memory-limit", "1MB", "--json"))
    assert found["results"][0]["labels"][0]["name"] == "red"
    assert 0 < found["device_bytes"] <= 1_000_000
    refused = rekindle(*arguments, "--memory-limit", "1KB")
    assert refused.exit_code == 7
    assert "the limit is 1,000" in refused.stderr


@pytest.mark.parametrize("amount", ["2 potatoes", "-1", "0", ""])
def test_what_is_no_amount(rekindle: Run, long: Path, amount: str) -> None:
    result = rekindle("run", long, "--shape", "N=2", f"--memory-limit={amount}")
    assert result.exit_code == 2
    assert "not an amount of memory" in result.stderr
