"""rekindle::Chain: it means what the nodes mean that it stands for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from lowering_oracle import run_calls
from small_models import normal

from rekindle._errors import UnsupportedOperatorError
from rekindle._types import DType
from rekindle.graph import ops, reference
from rekindle.graph.cost import node_costs
from rekindle.graph.expr import Arg, maximum
from rekindle.graph.infer import bind
from rekindle.graph.ir import Array, Graph, Node, Value, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops.chain import chain

ARRAYS = {
    "x": normal(2, 6, 9, 7), "taps": normal(6, 1, 3, 3, seed=1), "tb": normal(6, seed=2),
    "w": normal(5, 6, 1, 1, seed=3), "r": normal(2, 5, 9, 7, seed=4),
}  # fmt: skip
DEPTHWISE = Node(
    "Conv", ("x", "taps", "tb"), ("d",),
    {"pads": (1, 1, 1, 1), "group": 6, "epilogue": maximum(Arg(0), 0.0)}, "rekindle", "first",
)  # fmt: skip
POINTWISE = Node(
    "Conv", ("d", "w", "", "r"), ("y",), {"epilogue": Arg(0) + Arg(1)}, "rekindle", "second"
)
POOL = Node("GlobalAveragePool", ("x",), ("g",))
SQUEEZE = Node("Conv", ("g", "w"), ("s",), {"epilogue": None}, "rekindle")


def graph_of(nodes: Sequence[Node], arrays: dict[str, Array]) -> Graph:
    read = {name for node in nodes for name in node.inputs}
    values = {n: Value(n, dtype_of(a), a.shape) for n, a in arrays.items() if n in read}
    opsets = {"": 17, "rekindle": 1}
    output = nodes[-1].outputs
    return bind(Graph("g", tuple(values), output, list(nodes), values, {}, opsets), {})


def joined(plain: Graph) -> Graph:
    """The graph with all its nodes as one."""
    inner = [plain.values[node.outputs[0]] for node in plain.nodes[:-1]]
    made = plain.copy()
    made.nodes = [chain(plain.nodes, inner)]
    for value in inner:
        del made.values[value.name]
    return made


@pytest.fixture
def plain() -> Graph:
    return graph_of([DEPTHWISE, POINTWISE], ARRAYS)


def test_it_reads_what_the_nodes_read_and_is_called_after_them(plain: Graph) -> None:
    (node,) = joined(plain).nodes
    assert node.inputs == ("x", "taps", "tb", "w", "", "r")
    assert node.outputs == ("y",)
    assert node.name == "first + second"


@pytest.mark.parametrize("nodes", [[DEPTHWISE, POINTWISE], [POOL, SQUEEZE]], ids=["convs", "pool"])
def test_values_types_and_costs_are_those_of_the_nodes(nodes: list[Node]) -> None:
    plain = graph_of(nodes, ARRAYS)
    made = joined(plain)
    feeds = {name: ARRAYS[name] for name in plain.inputs}
    (name,) = plain.outputs
    expected = reference.run(plain, feeds)[name]
    np.testing.assert_array_equal(reference.run(made, feeds)[name], expected)
    bound = bind(made, {})
    assert bound.values[name] == plain.values[name]
    (cost,) = node_costs(made)
    each = node_costs(plain)
    assert cost.flops == sum(c.flops for c in each)
    assert cost.bytes_written == each[-1].bytes_written


def test_its_call_has_the_calls_of_the_nodes_as_parts(plain: Graph) -> None:
    made = joined(plain)
    (node,) = made.nodes
    lowering = Lowering(made, node)
    operator = ops.find("rekindle::Chain", 1)
    assert operator is not None
    ops.lower(operator, lowering)
    (call,) = lowering.calls
    assert call.name == "chain"
    assert [v.name if v else None for v in call.inputs] == ["x", "taps", "tb", "w", None, "r"]
    first, second = call.parts
    assert first.output == second.inputs[0] == Value("d", DType.FLOAT32, (2, 6, 9, 7))
    assert second.output == call.output
    values = run_calls(call.parts, ARRAYS)
    expected = reference.run(plain, ARRAYS)["y"]
    np.testing.assert_allclose(values["y"], expected, rtol=1e-5, atol=1e-5)


def test_a_node_of_several_calls_has_no_place_in_it() -> None:
    plain = graph_of([Node("LpNormalization", ("x",), ("d",)), POINTWISE], ARRAYS)
    made = joined(plain)
    (operator, node) = ops.find("rekindle::Chain", 1), made.nodes[0]
    assert operator is not None
    with pytest.raises(UnsupportedOperatorError, match="which nothing does at once"):
        ops.lower(operator, Lowering(made, node))
