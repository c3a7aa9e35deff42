"""How results are compared, and a node by itself on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernel_harness import pack_blocked, pocl_device

from rekindle._types import DType, Layout
from rekindle.engine.plan import plan
from rekindle.engine.single_node import as_stored, isolate, run_alone, tolerance_of
from rekindle.engine.weights import Weights
from rekindle.graph import onnx_io, passes
from rekindle.graph.infer import bind
from rekindle.graph.reference import difference
from tests.engine.graphs import POLARIS, classifier

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("found", "expected", "wanted"),
    [
        ([1.0, 4.0], [1.0, 5.0], 0.2),
        ([0.0, 0.5], [0.0, 0.0], 0.5),
        ([], [], 0.0),
        ([NAN, INF, -INF, 2.0], [NAN, INF, -INF, 2.0], 0.0),
        ([NAN, 1.0], [1.0, 1.0], INF),
        ([1.0, 1.0], [NAN, 1.0], INF),
        ([INF, 1.0], [-INF, 1.0], INF),
        ([1.0], [1.0, 1.0], INF),
    ],
)
def test_differences(found: list[float], expected: list[float], wanted: float) -> None:
    a, b = np.array(found, np.float32), np.array(expected, np.float32)
    assert difference(a, b) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (np.array([2**62 + 1]), np.array([2**62])),
        (np.array([3], np.int8), np.array([-3], np.int8)),
        (np.array([True]), np.array([False])),
        (np.array(["a"], object), np.array(["b"], object)),
    ],
)
def test_what_is_not_equal_differs(found: Any, expected: Any) -> None:
    assert difference(found, expected) > 0
    assert difference(expected, expected) == 0


def test_tolerances() -> None:
    assert tolerance_of(DType.FLOAT32, ["conv_tiled"]) == 1e-4
    assert tolerance_of(DType.FLOAT32, ["conv_winograd", "copy"]) == 1e-3
    assert tolerance_of(DType.FLOAT16) > 2**-11  # half a unit in its last place


@pytest.mark.parametrize(("channels", "block"), [(13, 4), (16, 16), (1, 16), (17, 0)])
def test_values_as_they_are_stored(channels: int, block: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, channels, 3, 5)).astype(np.float32)
    expected = pack_blocked(x, block) if block else x
    np.testing.assert_array_equal(as_stored(x, Layout(block)), expected)


@pytest.mark.opencl
def test_a_blocked_node_by_itself() -> None:
    """A 1 x 1 convolution of a planned network: its values go in and come out blocked."""
    graph = passes.run(onnx_io.load_bytes(classifier().SerializeToString()), passes.PORTABLE)
    bound = passes.run(bind(graph, {"x": (2, 3, 17, 19)}), passes.DEVICE, POLARIS)
    node = [n for n in bound.nodes if n.op_type == "Conv"][-1]
    alone = isolate(bound, node)
    (source, result) = (alone.values[n] for n in (*alone.inputs, *alone.outputs))
    assert source.layout.block == result.layout.block == 4
    x = np.random.default_rng(1).standard_normal(source.static_shape).astype(np.float32)
    device = pocl_device()
    found = run_alone(plan(alone, POLARIS), device, Weights(device), {source.name: x})
    w = bound.initializers[node.inputs[1]][:, :, 0, 0]
    expected = np.einsum("mc,nchw->nmhw", w.astype(np.float64), x)
    stored = pack_blocked(expected.astype(np.float32), 4)
    np.testing.assert_allclose(found[result.name], stored, rtol=1e-4, atol=1e-5)
