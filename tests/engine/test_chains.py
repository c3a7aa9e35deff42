"""Which neighbouring nodes a plan joins, which not, and that this changes no result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from graphs import POLARIS, model
from kernel_harness import Array, pocl_device
from onnx import helper

from rekindle._types import DType, Layout, Target
from rekindle.device.architectures import architecture
from rekindle.engine.chains import join
from rekindle.engine.kernels import Context
from rekindle.engine.plan import DeviceStep, Plan, plan
from rekindle.engine.prediction.estimate import launch_cost
from rekindle.engine.prediction.rates import of_card
from rekindle.engine.single_node import run_alone
from rekindle.engine.weights import Weights
from rekindle.graph import onnx_io, passes, reference
from rekindle.graph.expr import Arg
from rekindle.graph.infer import bind
from rekindle.graph.ir import Graph, Node, Value

CARD = replace(POLARIS, alignment_bytes=128)
KERNEL = "depthwise_pointwise_lanes"
C, M = 16, 12


def conv(name: str, *inputs: str, **attrs: object) -> Node:
    return Node("Conv", inputs, (name,), {"epilogue": None, **attrs}, "rekindle", name)


AROUND: dict[str, object] = {"pads": (1, 1, 1, 1), "group": C}
DEPTHWISE, POINTWISE = conv("d", "x", "taps", **AROUND), conv("p", "d", "w")


def graph_of(nodes: Sequence[Node], outputs: Sequence[str]) -> Graph:
    """Images of C channels (`p...`: of M) in blocks, weights known; named as above."""
    rng = np.random.default_rng(5)
    shapes = {"taps": (C, 1, 3, 3), "w": (M, C, 1, 1), "v": (M, M, 1, 1)}
    weights = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    values = {n: Value(n, DType.FLOAT32, s) for n, s in shapes.items()}
    for name in ("x", *(node.outputs[0] for node in nodes)):
        channels = M if name[0] == "p" else C
        values[name] = Value(name, DType.FLOAT32, (1, channels, 7, 9), Layout(4))
    opsets = {"": 17, "rekindle": 1}
    return Graph("g", ("x",), tuple(outputs), list(nodes), values, weights, opsets)


def kinds(graph: Graph, target: Target = CARD) -> list[str]:
    """What `join` makes of the nodes: their names, joined ones with a plus."""
    made = join(graph, Context(target, graph.constant))
    return [node.name for node in made.nodes]


def test_neighbours_are_joined_where_a_kernel_does_both() -> None:
    graph = graph_of([DEPTHWISE, POINTWISE], ["p"])
    assert kinds(graph) == ["d + p"]
    assert len(graph.nodes) == 2, "the graph that was given stays"
    off = replace(CARD, disabled_kernels=(KERNEL,))
    assert kinds(graph, off) == ["d", "p"]
    assert kinds(graph, replace(CARD, broken_kernels=(KERNEL,))) == ["d", "p"]


def test_two_pairs_in_a_row_are_two_chains() -> None:
    again = [conv("e", "x2", "taps", **AROUND), conv("q", "e", "w")]
    between = conv("x2", "p", "back")
    graph = graph_of([DEPTHWISE, POINTWISE, between, *again], ["q"])
    rng = np.random.default_rng(6)
    graph.initializers["back"] = rng.standard_normal((C, M, 1, 1)).astype(np.float32)
    graph.values["back"] = Value("back", DType.FLOAT32, (C, M, 1, 1))
    graph.values["q"] = replace(graph.values["q"], shape=(1, M, 7, 9))
    assert kinds(graph) == ["d + p", "x2", "e + q"]


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        pytest.param([DEPTHWISE, POINTWISE, conv("p2", "d", "w")], ["p", "p2"], id="two readers"),
        pytest.param([DEPTHWISE, POINTWISE], ["p", "d"], id="an output of the graph between"),
        pytest.param(
            [conv("d", "x", "taps", "", "x", **AROUND, epilogue=Arg(0) + Arg(1)), POINTWISE], ["p"],
            id="an operand in the middle",
        ),
        pytest.param(
            [DEPTHWISE, conv("p", "x", "w"), conv("d2", "x", "taps", "", "d", **AROUND,
                                                  epilogue=Arg(0) + Arg(1))],
            ["p", "d2"], id="read as an operand",
        ),
        pytest.param([conv("p", "x", "w"), conv("p2", "p", "v")], ["p2"], id="no kernel for both"),
    ],
)  # fmt: skip
def test_what_is_not_joined(nodes: list[Node], outputs: list[str]) -> None:
    assert kinds(graph_of(nodes, outputs)) == [node.name for node in nodes]


def test_a_chain_stands_where_its_last_node_stood() -> None:
    """What it reads beside the first input may be made after its first node."""
    residual = conv("p0", "x", "w")
    end = conv("p", "d", "w", "", "p0", epilogue=Arg(0) + Arg(1))
    graph = graph_of([DEPTHWISE, residual, end], ["p"])
    assert kinds(graph) == ["p0", "d + p"]


def blocks() -> Graph:
    """Two inverted bottlenecks as MobileNetV2 has them, the second one with a residual."""
    rng = np.random.default_rng(1)
    weights: dict[str, Array] = {"low": np.float32(0), "high": np.float32(6)}

    def w(name: str, *shape: int) -> str:
        fan = np.prod(shape[1:]) or 1
        weights[name] = (rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32)
        return name

    node, nodes = helper.make_node, []
    for i, (c, m, stride) in enumerate(((8, 19, 2), (19, 19, 1))):
        x, wide = ("x", "a0")[i], 6 * c
        group = {"group": wide, "pads": [1, 1, 1, 1], "strides": [stride, stride]}
        nodes += [
            node("Conv", [x, w(f"e{i}", wide, c, 1, 1), w(f"be{i}", wide)], [f"c{i}"]),
            node("Clip", [f"c{i}", "low", "high"], [f"r{i}"]),
            node("Conv", [f"r{i}", w(f"d{i}", wide, 1, 3, 3), w(f"bd{i}", wide)], [f"f{i}"],
                 **group),
            node("Clip", [f"f{i}", "low", "high"], [f"g{i}"]),
            node("Conv", [f"g{i}", w(f"p{i}", m, wide, 1, 1), w(f"bp{i}", m)], [f"a{i}"],
                 name=f"projection {i}"),
        ]  # fmt: skip
    nodes += [node("Add", ["a0", "a1"], ["s"]), node("GlobalAveragePool", ["s"], ["y"])]
    made = model(nodes, {"x": [2, 8, 15, 13]}, {"y": [2, 19, 1, 1]}, weights)
    return onnx_io.load_bytes(made.SerializeToString())


def planned(target: Target) -> Plan:
    bound = bind(passes.run(blocks(), passes.PORTABLE), {})
    return plan(passes.run(bound, passes.DEVICE, target), target)


def algorithms(made: Plan) -> list[tuple[str, ...]]:
    return [step.algorithms for step in made.steps if isinstance(step, DeviceStep)]


@pytest.mark.opencl
@pytest.mark.slow
def test_a_network_with_chains_computes_the_same() -> None:
    x = np.random.default_rng(2).standard_normal((2, 8, 15, 13)).astype(np.float32)
    joined, apart = planned(CARD), planned(replace(CARD, disabled_kernels=(KERNEL,)))
    assert algorithms(joined).count((KERNEL,)) == 2
    assert algorithms(apart).count(("depthwise_lanes",)) == 2
    assert len(joined.steps) == len(apart.steps) - 2
    assert len(list(joined.launches())) < len(list(apart.launches()))
    device = pocl_device()
    results = [run_alone(made, device, Weights(device), {"x": x})["y"] for made in (joined, apart)]
    expected = reference.run(bind(blocks(), {}), {"x": x})["y"]
    for found in results:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_depthwise_sums_made_for_each_panel_take_time_and_are_no_work() -> None:
    joined, apart = planned(POLARIS), planned(replace(POLARIS, disabled_kernels=(KERNEL,)))
    again = [launch for launch in joined.launches() if launch.flops_again]
    assert again
    rates = of_card(architecture("rx580"))
    for launch in again:
        cost = launch_cost(launch, rates).arithmetic_s
        assert cost > launch_cost(replace(launch, flops_again=0), rates).arithmetic_s
    by_node = [sum(launch.flops for launch in made.launches()) for made in (joined, apart)]
    assert by_node[0] == pytest.approx(by_node[1], rel=0.02)


def squeeze(side: int) -> Graph:
    """The mean of an image of that many pixels a side, and two products of it."""
    rng = np.random.default_rng(3)
    weights = {n: rng.standard_normal(s).astype(np.float32)
               for n, s in (("w", (8, 96, 1, 1)), ("v", (96, 8, 1, 1)))}  # fmt: skip
    shapes = {"x": (1, 96, side, side), "g": (1, 96, 1, 1), "s": (1, 8, 1, 1), "e": (1, 96, 1, 1)}
    values = {n: Value(n, DType.FLOAT32, s, Layout(4)) for n, s in shapes.items()}
    values |= {n: Value(n, DType.FLOAT32, a.shape) for n, a in weights.items()}
    nodes = [Node("GlobalAveragePool", ("x",), ("g",), name="g")]
    nodes += [conv("s", "g", "w"), conv("e", "s", "v")]
    opsets = {"": 17, "rekindle": 1}
    return Graph("g", ("x",), ("e",), nodes, values, weights, opsets)


def test_the_longest_line_that_pays_is_joined() -> None:
    """A large image has its mean made by the whole card."""
    assert kinds(squeeze(14)) == ["g + s + e"]
    assert kinds(squeeze(56)) == ["g", "s + e"]
    assert kinds(squeeze(14), replace(CARD, disabled_kernels=("squeeze_excite_lanes",))) == [
        "g", "s", "e",
    ]  # fmt: skip
