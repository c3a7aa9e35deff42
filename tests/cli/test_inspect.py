"""`rekindle inspect`: figures that can be computed by hand, and a plan for a card not here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import Result

from rekindle._errors import DeviceError
from rekindle.cli import _anatomy
from rekindle.runtime.hybrid import measure
from rekindle.runtime.hybrid.calibration import SideRates
from tests.engine.graphs import model, write

Run = Callable[..., Result]
Document = Callable[..., dict[str, Any]]


def test_figures(rekindle: Run, document: Document, bare: Path) -> None:
    found = document(rekindle("inspect", bare, "--target", "rx580", "--shape", "N=2", "--json"))
    assert found["framework"] == "onnx"
    assert found["opset"] == 13
    assert found["file_bytes"] == bare.stat().st_size
    assert found["parameters"] == 9
    assert found["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["N", 3, 8, 8]}]
    assert found["outputs"][0]["name"] == "logits"
    assert found["shapes"] == {"image": [2, 3, 8, 8]}
    flops = {entry["operator"]: entry["flops"] for entry in found["operators"]}
    assert flops["Conv"] == 2 * 2 * 3 * 3 * 8 * 8  # multiply-adds x 2: N, C, M, H, W
    assert flops.keys() == {"Conv", "Relu", "GlobalAveragePool", "Flatten"}
    assert found["flops"] == sum(flops.values())
    assert found["operators"][0]["operator"] == "Conv"
    assert found["moved_bytes"] >= 4 * (2 * 3 * 8 * 8 * 2 + 9)
    plan = found["plan"]
    assert "RX 580" in plan["target"]
    assert plan["device_bytes"] == plan["weight_bytes"] + plan["activation_bytes"]
    assert all(step["where"] in ("device", "host") for step in plan["steps"])
    assert all(step["reason"] for step in plan["steps"] if step["where"] == "host")


def test_the_page_for_people(rekindle: Run, bare: Path) -> None:
    result = rekindle("inspect", bare, "--target", "rx580")
    assert result.exit_code == 0
    for word in (
        "onnx, opset 13,",
        "9 parameters",
        "input   image: float32[N, 3, 8, 8]",
        "Operators, for image 1x3x8x8",
        "On Radeon RX 580",
        "of device memory: weights",
    ):
        assert word in result.stdout


def test_without_a_device_there_is_no_plan_and_a_reason(
    rekindle: Run, document: Document, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(choice: str | None = None) -> None:
        raise DeviceError("OpenCL offers no device")

    monkeypatch.setattr(_anatomy, "select_device", none)
    result = rekindle("inspect", bare)
    assert result.exit_code == 0
    assert "No plan: OpenCL offers no device" in result.stdout
    assert document(rekindle("inspect", bare, "--json"))["plan"] is None
    assert rekindle("inspect", bare, "--device", "RX").exit_code == 6


def test_a_model_that_cannot_run_can_still_be_looked_at(
    rekindle: Run, document: Document, tmp_path: Path
) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["y"]),
            helper.make_node("Wobble", ["y"], ["z"], domain="com.example"),
        ],
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4])],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.example", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "odd.onnx")
    found = document(rekindle("inspect", tmp_path / "odd.onnx", "--json"))
    assert found["unsupported"] == ["com.example::Wobble"]
    assert found["flops"] is None
    assert found["problem"]
    assert found["plan"] is None
    page = rekindle("inspect", tmp_path / "odd.onnx")
    assert page.exit_code == 0
    assert "Rekindle does not know: com.example::Wobble" in page.stdout


def test_the_html_page_needs_nothing_else(
    rekindle: Run, document: Document, bare: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    told = document(rekindle("inspect", bare, "--target", "rx580", "--html", page, "--json"))
    assert told["html"] == str(page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    for word in ("bare.onnx on Radeon RX 580", "onnx, opset 13", "planned for", "<svg", "Conv"):
        assert word in text
    outside = re.findall(r'(?:src|href)\s*=\s*"(?!#)([^"]*)"|url\((?!#)', text)
    assert outside == []


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--html", "absent/page.html", "--target", "rx580"], 2, "cannot be written: No such"),
        (["--target", "rx9999"], 8, "unknown architecture 'rx9999'"),
        (["--shape", "M=2"], 2, "no dynamic dimension M (it has N)"),
    ],
)
def test_wrong_questions(
    args: list[str], code: int, message: str, rekindle: Run, bare: Path
) -> None:
    result = rekindle("inspect", bare, *args)
    assert result.exit_code == code
    assert message in result.stderr


def test_what_is_no_model(rekindle: Run, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\x00\x01 nothing")
    result = rekindle("inspect", tmp_path / "x.onnx")
    assert result.exit_code == 4
    assert "x.onnx" in result.stderr


@pytest.fixture
def sorting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Convolution, TopK, negation; no kernel for TopK, a processor that is slow at the rest."""
    monkeypatch.setenv("REKINDLE_DISABLE_KERNELS", "top_k")
    monkeypatch.setattr(measure, "measure_processor", lambda: SideRates(1e-3, 1e6, 1e6, 1e6))
    weights = {
        "w": np.ones((8, 3, 3, 3), np.float32),
        "k": np.array([5], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="filter"),
        helper.make_node("TopK", ["c", "k"], ["t", "i"], name="sort"),
        helper.make_node("Neg", ["t"], ["y"], name="turn"),
    ]
    return write(model(nodes, {"x": [1, 3, 9, 9]}, {"y": [1, 8, 7, 5]}, weights), tmp_path)


def test_a_hybrid_plan_says_what_runs_where_and_moves(
    rekindle: Run, document: Document, sorting: Path
) -> None:
    command = ("inspect", sorting, "--provider", "hybrid", "--target", "rx580")
    plan = document(rekindle(*command, "--json"))["plan"]
    where = {step["node"]: (step["where"], step["kernels"]) for step in plan["steps"]}
    assert where["filter"][0] == "device"
    assert where["sort"] == ("host", ["onnxruntime"])
    assert where["turn"][0] == "device"
    assert [t["direction"] for t in plan["transfers"]] == [
        "upload", "download", "upload", "download",
    ]  # fmt: skip
    assert plan["transfers"][0]["nbytes"] == 4 * 3 * 9 * 9
    page = rekindle(*command).stdout
    assert "on the host: TopK sort" in page
    assert "in every run: 2 uploads of" in page
    assert "decided by estimates; rates assumed from the roofline of Radeon RX 580" in page


def test_a_hybrid_page_is_coloured_by_side_and_marks_what_moves(
    rekindle: Run, sorting: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    done = rekindle("inspect", sorting, "--provider", "hybrid", "--target", "rx580", "--html", page)
    assert done.exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert text.count('class="cpu host"') == 1
    assert text.count('class="device"') >= 2
    assert text.count('class="line transfer"') == 4  # in, to the CPU, back, out
    assert "by ONNX Runtime" in text
    assert "2 uploads of" in text


def test_only_two_providers_have_plans(rekindle: Run, bare: Path) -> None:
    result = rekindle("inspect", bare, "--provider", "reference")
    assert result.exit_code == 2
    assert "no plan for --provider reference" in result.stderr
