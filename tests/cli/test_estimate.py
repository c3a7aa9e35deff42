"""`rekindle estimate`: time and memory of a plan for a card, where no OpenCL is touched."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
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
        (("--memory", "--target", "rx9999"), 8, "unknown architecture 'rx9999'"),
        (("--device", "rx-850"), 8, "did you mean rx590 or rx580"),
        (("--device", "voodoo"), 8, "known: rx460, rx470"),
        (("--device", ""), 8, "unknown architecture ''"),
        (("--memory", "--shape", "M=2"), 2, "no dynamic dimension M (it has N)"),
        (("--shape", "N=0"), 2, "--shape N=0 cannot be used"),
        (("--batch", "2", "--shape", "N=3"), 2, "--batch 2 and --shape N=3 contradict each other"),
        (("--precision", "fp8"), 2, "fp8"),
        (("--memory-limit", "much"), 2, "much"),
    ],
)
def test_wrong_questions(
    args: tuple[str, ...], code: int, message: str, rekindle: Run, bare: Path
) -> None:
    result = rekindle("estimate", bare, *args)
    assert result.exit_code == code
    assert message in result.stderr


@pytest.mark.parametrize("option", ["", "--memory"])
def test_no_opencl_is_asked(option: str, bare: Path) -> None:
    code = (
        "import sys\n"
        "from rekindle.device import discovery\n"
        "from rekindle.cli import app\n"
        "def touched(): raise AssertionError('OpenCL was asked')\n"
        "discovery._opencl = touched\n"
        f"arguments = ['estimate', {str(bare)!r}, '--json', *{option.split()!r}]\n"
        "app(arguments, prog_name='rekindle')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_times_add_up(rekindle: Run, document: Document, bare: Path) -> None:
    """A pointwise convolution with its Relu, and a mean: 8 us from launch to launch, 43 at last."""
    found = document(rekindle("estimate", bare, "--json"))
    assert found["kind"] == "estimate"
    assert (found["target"], found["precision"]) == ("Radeon RX 580", "model")
    layers = found["layers"]
    assert sum(layer["seconds"] for layer in layers) == pytest.approx(found["kernels_s"])
    assert found["launches"] >= len(layers) >= 2
    assert found["kernels_s"] >= 8e-6 * found["launches"]
    parts = ("kernels_s", "transfers_s", "waiting_s", "host_s")
    assert found["seconds"] == pytest.approx(sum(found[part] for part in parts))
    assert found["transfers_s"] == pytest.approx((4 * 3 * 64 + 4 * 3) / 15e9)
    assert found["waiting_s"] == pytest.approx(43e-6)
    assert found["energy_j"] == pytest.approx(185 * found["seconds"])
    assert found["per_second"] == pytest.approx(1 / found["seconds"])
    (conv,) = [layer for layer in layers if "Conv" in layer["operator"]]
    assert conv["flops"] >= 2 * 3 * 3 * 64
    assert {layer["limit"] for layer in layers} == {"launch"}, "so small is nothing but launches"
    assert {fact["origin"] for fact in found["facts"]} <= {"published", "counted", "assumed"}
    assert [fit["memory_bytes"] >> 30 for fit in found["memory"]["fits"]] == [4, 8]


def test_a_batch_is_the_first_dimension(rekindle: Run, document: Document, bare: Path) -> None:
    one = document(rekindle("estimate", bare, "--json"))
    many = document(rekindle("estimate", bare, "--batch", 256, "--json"))
    assert many["shapes"] == {"image": [256, 3, 8, 8]}
    assert many == document(rekindle("estimate", bare, "--shape", "N=256", "--json"))
    assert many["flops"] > 200 * one["flops"]
    assert one["seconds"] < many["seconds"] < 256 * one["seconds"]


def test_a_fixed_batch_stays(rekindle: Run, tmp_path: Path) -> None:
    path = write(chain(layers=1), tmp_path)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    onnx.save(model, path)
    result = rekindle("estimate", path, "--batch", 8)
    assert result.exit_code == 2
    assert "--batch 8: the model's first dimension is fixed" in result.stderr


def test_the_page_of_times(rekindle: Run, bare: Path) -> None:
    result = rekindle("estimate", bare, "--device", "Radeon RX 560", "--top", 1)
    assert result.exit_code == 0
    for word in (
        "on Radeon RX 560, estimate for image 1x3x8x8",
        "75 W of board power",
        "4.0 GiB of device memory: fits",
        "more layers (--top, or --json for all)",
        "An estimate: nothing of it was measured on such a card",
        "assumed",
        "published",
    ):
        assert word in result.stdout


def test_narrow_storage_moves_less(rekindle: Run, document: Document, tmp_path: Path) -> None:
    path = write(chain(layers=9), tmp_path)
    plain = document(rekindle("estimate", path, "--batch", 64, "--json"))
    half = document(rekindle("estimate", path, "--batch", 64, "--precision", "fp16", "--json"))
    assert half["precision"] == "fp16"
    assert half["moved_bytes"] < plain["moved_bytes"]
    stored = document(rekindle("estimate", path, "--memory", "--precision", "int8w", "--json"))
    assert stored["weight_bytes"] < plain["memory"]["weight_bytes"]


def test_sizes_that_depend_on_data_are_named(rekindle: Run, tmp_path: Path) -> None:
    node = helper.make_node("NonZero", ["x"], ["y"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
    )
    path = tmp_path / "nonzero.onnx"
    onnx.save(helper.make_model(graph, ir_version=9), path)
    result = rekindle("estimate", path)
    assert result.exit_code == 0, result.stderr
    assert "1 steps on the host have sizes that depend on data: not counted" in result.stdout


def test_what_is_left_open_is_said(rekindle: Run, document: Document, tmp_path: Path) -> None:
    """Rows of five numbers and of M stand below each other where M is five."""
    graph = helper.make_graph(
        [helper.make_node("Concat", ["x", "y"], ["z"], axis=0)],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "M"]),
        ],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    path = tmp_path / "concat.onnx"
    onnx.save(helper.make_model(graph, ir_version=9), path)
    result = rekindle("estimate", path)
    assert result.exit_code == 2
    assert "the model cannot be planned with M of 1" in result.stderr
    assert "--shape M=SIZE" in result.stderr
    assert document(rekindle("estimate", path, "--shape", "M=5", "--json"))["taken_as_1"] == []


def test_other_chips_are_assumed(rekindle: Run, document: Document, bare: Path) -> None:
    found = document(rekindle("estimate", bare, "--device", "vega56", "--json"))
    assert {layer["basis"] for layer in found["layers"]} <= {"nearest", "assumed"}
    assert "counted" not in {fact["origin"] for fact in found["facts"]}
