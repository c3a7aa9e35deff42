"""The hybrid provider: equal results however a model is divided, and a division that is as told."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rekindle import open_session
from rekindle._errors import NotBuiltError, UsageError
from rekindle.device import select_device
from rekindle.engine.executor import Executor
from rekindle.engine.plan import HostStep
from rekindle.engine.trace import Trace
from rekindle.engine.transfers import transfers
from rekindle.engine.weights import Weights
from rekindle.graph import onnx_io
from rekindle.graph.ir import Array, Graph
from rekindle.graph.reference import difference
from rekindle.runtime._options import Options
from rekindle.runtime.hybrid.calibration import Calibration, Link, SideRates
from rekindle.runtime.hybrid.partition import Problem
from rekindle.runtime.hybrid.planner import Planner
from rekindle.runtime.providers import REGISTRY
from rekindle.runtime.providers.opencl import OpenCLBackend
from tests.engine.graphs import classifier, model, write

pytestmark = pytest.mark.opencl

SLOW, FAST = SideRates(1e-3, 1e6, 1e6, 1e6), SideRates(1e-6, 1e12, 1e12, 1e12)
CHEAP = Link(2e-6, 1e15)
TO_DEVICE = Calibration(FAST, SLOW, CHEAP, CHEAP)
"""A table under which the device takes whatever it can."""
TO_CPU = Calibration(SLOW, FAST, CHEAP, CHEAP)


@pytest.fixture(autouse=True)
def _no_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions take the recorded table; measuring has a test of its own."""
    monkeypatch.setattr(
        "rekindle.runtime.providers.hybrid.calibration_for", lambda _device: TO_DEVICE
    )


def opened(
    proto: onnx.ModelProto,
    calibration: Calibration = TO_DEVICE,
    choose: Callable[[Problem], Sequence[bool]] | None = None,
) -> OpenCLBackend:
    graph = onnx_io.load_bytes(proto.SerializeToString())
    planner = Planner(calibration) if choose is None else Planner(calibration, None, choose)
    return OpenCLBackend(graph, select_device(), Options(), "test", "hybrid", planner)


def expected(proto: onnx.ModelProto, feeds: Mapping[str, Array], folder: Path) -> dict[str, Array]:
    with open_session(write(proto, folder), provider="onnxruntime") as session:
        return session.run(feeds)


def places(backend: OpenCLBackend) -> dict[str, str]:
    return {node.op_type: node.where for node in backend.placement.nodes}


def image(batch: int) -> dict[str, Array]:
    rng = np.random.default_rng(batch)
    return {"x": rng.standard_normal((batch, 3, 17, 19)).astype(np.float32)}


@pytest.mark.parametrize("seed", range(2))
def test_any_division_gives_the_same_result(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    backend = opened(classifier(), choose=lambda p: [rng.random() < 0.5 for _ in p.device_ns])
    got = backend.run(image(2))
    assert list(got) == ["y"]
    assert difference(got["y"], expected(classifier(), image(2), tmp_path)["y"]) <= 1e-4
    sides = {node.where for node in backend.placement.nodes}
    assert sides == {"device", "host"}
    backend.close()


@pytest.mark.parametrize(("table", "side"), [(TO_DEVICE, "device"), (TO_CPU, "host")])
def test_the_cost_table_decides(table: Calibration, side: str, tmp_path: Path) -> None:
    backend = opened(classifier(), table)
    got = backend.run(image(3))["y"]
    assert difference(got, expected(classifier(), image(3), tmp_path)["y"]) <= 1e-4
    assert {node.where for node in backend.placement.nodes} == {side}
    moved = [(t.value, t.direction) for t in backend.placement.transfers]
    assert moved == ([("x", "upload"), ("y", "download")] if side == "device" else [])


def sorted_in_the_middle() -> onnx.ModelProto:
    """Convolution, TopK along the last axis, convolution on what it found; a long skip."""
    node = helper.make_node
    rng = np.random.default_rng(3)
    weights = {
        "w1": rng.standard_normal((13, 3, 3, 3)).astype(np.float32) / 5,
        "w2": rng.standard_normal((7, 13, 3, 3)).astype(np.float32) / 10,
        "k": np.array([11], np.int64),
    }
    nodes = [
        node("Conv", ["x", "w1"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("TopK", ["r", "k"], ["t", "i"], axis=-1),
        node("Conv", ["t", "w2"], ["d"], pads=[1, 1, 1, 1]),
        node("ReduceMean", ["r"], ["m"], axes=[2, 3], keepdims=1),
        node("ReduceMean", ["d"], ["n"], axes=[2, 3], keepdims=1),
        node("Concat", ["m", "n"], ["y"], axis=1),
    ]
    return model(nodes, {"x": ["N", 3, 17, 19]}, {"y": ["N", 20, 1, 1]}, weights)


def test_an_operator_without_a_kernel_goes_to_onnx_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REKINDLE_DISABLE_KERNELS", "top_k")
    backend = opened(sorted_in_the_middle())
    got = backend.run(image(2))["y"]
    assert difference(got, expected(sorted_in_the_middle(), image(2), tmp_path)["y"]) <= 1e-4
    (host,) = (node for node in backend.placement.nodes if node.where == "host")
    assert host.op_type == "TopK"
    assert host.kernels == ("onnxruntime",)
    assert "top_k is switched off" in host.reason
    moved = [t.direction for t in backend.placement.transfers]
    assert moved == ["upload", "download", "upload", "download"]


def test_what_depends_on_data_stays_on_the_cpu_with_its_readers(tmp_path: Path) -> None:
    """NonZero has as many columns as there are positive scores: another number in every run."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("NonZero", ["r"], ["z"]),
        node("Cast", ["z"], ["f"], to=TensorProto.FLOAT),
        node("ReduceMean", ["f"], ["y"], axes=[1], keepdims=0),
        node("Exp", ["y"], ["e"]),
    ]
    w = np.random.default_rng(0).standard_normal((5, 3, 1, 1)).astype(np.float32)
    proto = model(nodes, {"x": ["N", 3, 17, 19]}, {"e": [4], "z": [4, "K"]}, {"w": w})
    proto.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64
    backend = opened(proto)
    counts = set()
    for batch in (1, 2):
        got, want = backend.run(image(batch)), expected(proto, image(batch), tmp_path)
        counts.add(got["z"].shape[1])
        np.testing.assert_array_equal(got["z"], want["z"])
        np.testing.assert_allclose(got["e"], want["e"], rtol=1e-4)
    assert len(counts) == 2
    where = places(backend)
    assert (where["NonZero"], where["Cast"], where["ReduceMean"]) == ("host", "host", "host")
    assert where.get("Exp") == "device"  # its shape is known again


def boxes() -> onnx.ModelProto:
    """NonMaxSuppression on the scores of a convolution, and a convolution beside it."""
    node = helper.make_node
    rng = np.random.default_rng(5)
    corner = rng.uniform(0, 1, (1, 323, 2)).astype(np.float32)
    weights = {
        "w": rng.standard_normal((1, 3, 1, 1)).astype(np.float32),
        "v": rng.standard_normal((4, 1, 3, 3)).astype(np.float32),
        "boxes": np.concatenate([corner, corner + 0.3], 2),
        "flat": np.array([1, 1, 323], np.int64),
        "most": np.array([9], np.int64),
        "iou": np.array([0.4], np.float32),
    }
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Sigmoid", ["c"], ["s"]),
        node("Reshape", ["s", "flat"], ["scores"]),
        node("NonMaxSuppression", ["boxes", "scores", "most", "iou"], ["kept"]),
        node("Conv", ["s", "v"], ["y"]),
    ]
    proto = model(nodes, {"x": [1, 3, 17, 19]}, {"y": [1, 4, 15, 17], "kept": ["K", 3]}, weights)
    proto.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64
    return proto


def test_boxes_are_suppressed_on_the_cpu_while_the_rest_stays_on_the_device(tmp_path: Path) -> None:
    backend = opened(boxes())
    got, want = backend.run(image(1)), expected(boxes(), image(1), tmp_path)
    np.testing.assert_array_equal(got["kept"], want["kept"])
    assert difference(got["y"], want["y"]) <= 1e-4
    assert places(backend)["NonMaxSuppression"] == "host"
    assert places(backend)["Conv"] == "device"


def test_what_onnx_runtime_cannot_stays_off_the_cpu(tmp_path: Path) -> None:
    """Adding int16: the device has a kernel, ONNX Runtime has none."""
    node = helper.make_node
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Cast", ["a"], ["i"], to=TensorProto.INT16),
        node("Add", ["i", "i"], ["j"]),
        node("Cast", ["j"], ["f"], to=TensorProto.FLOAT),
        node("Neg", ["f"], ["y"]),
    ]
    proto = model(nodes, {"x": [3, 127]}, {"y": [3, 127]})
    x = np.random.default_rng(0).uniform(-9, 9, (3, 127)).astype(np.float32)
    got = opened(proto, TO_CPU).run({"x": x})["y"]
    np.testing.assert_array_equal(got, -2 * np.trunc(np.maximum(x, 0)))


def traced(backend: OpenCLBackend, feeds: Mapping[str, Array]) -> list[tuple[str, str]]:
    """Names and directions of what a run of the backend's plan really moved."""
    graph: Graph = backend._graph
    shapes = {name: array.shape for name, array in feeds.items()}
    planned = backend._planner(graph, backend._target, shapes)
    handle = select_device().opencl()
    trace = Trace(handle)
    executor = Executor(planned, handle, Weights(handle), trace)
    executor.run(feeds)
    moved = [(s.name, s.kind) for s in trace.spans() if s.kind in ("upload", "download")]
    assert sorted(moved) == sorted((t.value, t.direction) for t in transfers(planned))
    assert any(isinstance(step, HostStep) and step.run for step in planned.steps)
    executor.release()
    return moved


def test_each_value_moves_once_each_way_as_the_placement_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REKINDLE_DISABLE_KERNELS", "top_k")
    moved = traced(opened(sorted_in_the_middle()), image(2))
    assert len(moved) == len(set(moved)) == 4


def test_arguments_are_honoured_or_refused(tmp_path: Path) -> None:
    path = write(classifier(), tmp_path)
    with pytest.raises(UsageError, match="strict=True refuses what the hybrid provider is for"):
        open_session(path, provider="hybrid", strict=True)
    with pytest.raises(NotBuiltError, match="hybrid provider cannot honour precision='fp16'"):
        REGISTRY.get("hybrid").open(path, Options(precision="fp16"), "")
    with open_session(path, provider="hybrid", precision="fp32", threads=1, device=0) as session:
        assert session.placement.provider == "hybrid"
        session.run(image(1))
