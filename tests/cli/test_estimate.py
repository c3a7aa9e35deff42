"""`rekindle estimate --memory`: a memory plan for a card, where no OpenCL is touched."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from rekindle.graph import onnx_io
from rekindle.runtime.estimate import estimate_memory
from tests.engine.graphs import POLARIS, chain, classifier, write

Run = Callable[..., Result]
Document = Callable[..., dict[str, Any]]


def test_figures(rekindle: Run, document: Document, bare: Path) -> None:
    """The image (8,3,8,8), blocked by four after the convolution and Relu, then (8,3,1,1)."""
    found = document(rekindle("estimate", bare, "--memory", "--shape", "N=8", "--json"))
    assert found["kind"] == "estimate"
    assert found["shapes"] == {"image": [8, 3, 8, 8]}
    assert "RX 580" in found["target"]
    image, blocked, pooled = 4 * 8 * 3 * 64, 4 * 8 * 4 * 64, 512
    assert found["largest_bytes"] == blocked
    assert found["lower_bound_bytes"] == image + blocked
    assert found["arena_bytes"] == image + blocked
    assert found["sum_bytes"] == image + blocked + pooled
    assert found["buffers"] == 3
    assert found["device_bytes"] == found["weight_bytes"] + found["arena_bytes"]
    assert 9 * 4 <= found["weight_bytes"] <= 4096
    assert (found["nodes"], found["host_nodes"]) == (3, 0)
    assert found["fits"] == [
        {
            "memory_bytes": size << 30,
            "fits": True,
            "reason": "",
            "device_bytes": found["device_bytes"],
            "streaming": None,
        }
        for size in (4, 8)
    ]


def test_the_page(rekindle: Run, bare: Path) -> None:
    result = rekindle("estimate", bare, "--memory", "--target", "rx560")
    assert result.exit_code == 0
    for word in (
        "RX 560, estimate for image 1x3x8x8",
        "lower bound of the activations",
        "sum of all activations",
        "4.0 GiB of device memory: fits",
        "An estimate from the plan",
    ):
        assert word in result.stdout


def test_what_does_not_fit_says_why(tmp_path: Path) -> None:
    graph = onnx_io.load(write(classifier(), tmp_path))
    one = estimate_memory(graph, POLARIS, {"x": (64, 3, 17, 19)})
    batch = int(1.1 * (1 << 30) / (one.largest_bytes / 64))
    found = estimate_memory(graph, POLARIS, {"x": (batch, 3, 17, 19)})
    small, large = found.fits
    assert not small.fits
    assert "one buffer of" in small.reason
    assert "limit for one is 1,073,741,824" in small.reason
    assert large.fits
    other = estimate_memory(graph, replace(POLARIS, global_bytes=1 << 20), {"x": (99, 3, 17, 19)})
    assert [fit.memory_bytes for fit in other.fits] == [1 << 20, 4 << 30, 8 << 30]
    assert f"one buffer of {other.largest_bytes:,}" in other.fits[0].reason


def test_a_card_that_allows_only_small_buffers_gets_several(tmp_path: Path) -> None:
    """Together 1.2 GiB, no value more than 1 GiB: on 4 GiB OpenCL promises no larger buffer."""
    graph = onnx_io.load(write(classifier(), tmp_path))
    per_image = estimate_memory(graph, POLARIS, {"x": (64, 3, 17, 19)}).arena_bytes / 64
    found = estimate_memory(graph, POLARIS, {"x": (int(1.2 * (1 << 30) / per_image), 3, 17, 19)})
    assert found.arena_bytes > 1 << 30
    assert found.largest_bytes < 1 << 30
    assert [fit.fits for fit in found.fits] == [True, True]


def test_a_limit_says_what_is_streamed(rekindle: Run, document: Document, tmp_path: Path) -> None:
    path = write(chain(layers=9), tmp_path)
    layer = 4 * 64 * 65
    found = document(rekindle("estimate", path, "--memory", "--memory-limit", 5 * layer, "--json"))
    fit = found["fits"][0]
    assert fit["memory_bytes"] == 5 * layer
    assert fit["device_bytes"] <= 5 * layer
    streaming = fit["streaming"]
    assert streaming["resident_bytes"] + streaming["streamed_bytes"] == found["weight_bytes"]
    assert streaming["streamed_bytes"] >= 4 * layer
    assert streaming["upload_s_estimate"] is None
    page = rekindle("estimate", path, "--memory", "--memory-limit", "50KB", "--device", "rx560")
    assert "48.8 KiB of device memory: fits, 0.1 MB of weights streamed in each run" in page.stdout
    page = rekindle("estimate", path, "--memory", "--memory-limit", "20 KB")
    assert "19.5 KiB of device memory: does not fit: the model needs" in page.stdout
    assert "at least" in page.stdout


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ((), 2, "estimate can only tell the memory in this version (add --memory)"),
        (("--memory", "--target", "rx9999"), 8, "unknown architecture 'rx9999'"),
        (("--memory", "--shape", "M=2"), 2, "no dynamic dimension M (it has N)"),
    ],
)
def test_wrong_questions(
    args: tuple[str, ...], code: int, message: str, rekindle: Run, bare: Path
) -> None:
    result = rekindle("estimate", bare, *args)
    assert result.exit_code == code
    assert message in result.stderr


def test_no_opencl_is_asked(bare: Path) -> None:
    code = (
        "import sys\n"
        "from rekindle.device import discovery\n"
        "from rekindle.cli import app\n"
        "def touched(): raise AssertionError('OpenCL was asked')\n"
        "discovery._opencl = touched\n"
        f"app(['estimate', {str(bare)!r}, '--memory', '--json'], prog_name='rekindle')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
