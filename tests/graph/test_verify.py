"""The verifier names the first fault of a graph; order and cycles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from small_models import graph_of, normal

from rekindle._errors import ModelError, UnsupportedOperatorError
from rekindle._types import DType, Layout
from rekindle.graph.expr import Arg
from rekindle.graph.ir import OWN_DOMAIN, Graph, Node, Value
from rekindle.graph.order import captured, in_order, reads
from rekindle.graph.verify import verify


def sound() -> Graph:
    return graph_of(
        "(float[1,8,4,4] x) => (float[1,8,4,4] y) { c = Conv(x, w)  r = Relu(c)  y = Exp(r) }",
        w=normal(8, 8, 1, 1),
    )


def test_a_sound_graph_passes() -> None:
    verify(sound())


def _value(graph: Graph, name: str, **changes: object) -> None:
    graph.values[name] = replace(graph.values[name], **changes)


def _twice(graph: Graph) -> None:
    graph.nodes.append(graph.nodes[0])


def _early(graph: Graph) -> None:
    graph.nodes.reverse()


def _missing_output(graph: Graph) -> None:
    graph.outputs = ("nothing",)


def _output_twice(graph: Graph) -> None:
    graph.outputs = ("y", "y")


def _input_is_constant(graph: Graph) -> None:
    graph.initializers["x"] = normal(1, 8, 4, 4)


def _untyped(graph: Graph) -> None:
    del graph.values["c"]


def _misnamed(graph: Graph) -> None:
    graph.values["c"] = graph.values["r"]


def _unknown(graph: Graph) -> None:
    graph.nodes[1] = replace(graph.nodes[1], op_type="Frobnicate")


def _too_old(graph: Graph) -> None:
    graph.nodes[1] = replace(graph.nodes[1], op_type="HardSwish")
    graph.opsets[""] = 13


def _dtype(graph: Graph) -> None:
    _value(graph, "r", dtype=DType.FLOAT16)


def _shape(graph: Graph) -> None:
    _value(graph, "c", shape=(1, 8, 4, 5))


def _constant_shape(graph: Graph) -> None:
    graph.initializers["w"] = normal(8, 8, 3, 3)


def _blocked_input(graph: Graph) -> None:
    _value(graph, "x", layout=Layout(16))


def _blocked_output(graph: Graph) -> None:
    for name in ("r", "y"):
        _value(graph, name, layout=Layout(16))


def _half_blocked(graph: Graph) -> None:
    _value(graph, "r", layout=Layout(16))


def _mixed_blocks(graph: Graph) -> None:
    _value(graph, "c", layout=Layout(16))
    _value(graph, "r", layout=Layout(4))


def _blocked_at_softmax(graph: Graph) -> None:
    _value(graph, "c", layout=Layout(16))
    graph.nodes[1] = replace(graph.nodes[1], op_type="Softmax")


def _blocked_weights(graph: Graph) -> None:
    graph.values["w"] = Value("w", DType.FLOAT32, (8, 8, 1, 1), Layout(16))
    _value(graph, "c", layout=Layout(4))


def _blocked_matrix(graph: Graph) -> None:
    graph.nodes.append(Node("Flatten", ("x",), ("f",)))
    graph.values["f"] = Value("f", DType.FLOAT32, (1, 128), Layout(16))


def _reorder_nothing(graph: Graph) -> None:
    graph.nodes[1] = Node("Reorder", ("c",), ("r",), {}, OWN_DOMAIN)


FAULTS: list[tuple[Callable[[Graph], None], str]] = [
    (_twice, "defines 'c', which is defined already"),
    (_early, "reads 'r' before it is made"),
    (_missing_output, "'nothing' is made by no node"),
    (_output_twice, "an output is there twice"),
    (_input_is_constant, "'x' is defined twice"),
    (_untyped, "'c' has no type"),
    (_misnamed, "'c' has no type"),
    (_unknown, "Frobnicate is not known at opset 17"),
    (_too_old, "HardSwish is not known at opset 13"),
    (_dtype, "'r' is recorded as float16, but is float32"),
    (_shape, r"'c' is recorded as \(1, 8, 4, 5\), but is \(1, 8, 4, 4\)"),
    (_constant_shape, "initializer 'w' is float32"),
    (_blocked_input, "'x' enters or leaves the graph"),
    (_blocked_output, "blocked value, but 'c' is row-major|enters or leaves"),
    (_half_blocked, "gives a blocked value, but 'c' is row-major"),
    (_mixed_blocks, "mixes blocked layouts"),
    (_blocked_at_softmax, "Softmax.* takes row-major values only"),
    (_blocked_weights, "mixes blocked layouts"),
    (_blocked_matrix, "cannot be blocked16"),
    (_reorder_nothing, "reorders row-major to row-major"),
]


@pytest.mark.parametrize(("damage", "words"), FAULTS, ids=[f.__name__ for f, _ in FAULTS])
def test_each_fault_is_named(damage: Callable[[Graph], None], words: str) -> None:
    graph = sound()
    damage(graph)
    with pytest.raises(ModelError, match=words):
        verify(graph)


def test_unknown_operators_have_their_own_error() -> None:
    graph = sound()
    _unknown(graph)
    with pytest.raises(UnsupportedOperatorError):
        verify(graph)


def test_small_operands_need_no_blocks() -> None:
    graph = graph_of(
        "(float[1,8,4,4] x) => (float[1,8,4,4] y)"
        "{ c = Conv(x, w)  m = Mul(c, s)  y = Softmax(m) }",
        w=normal(8, 8, 1, 1), s=normal(8, 1, 1),
    )  # fmt: skip
    for name in ("c", "m"):
        _value(graph, name, layout=Layout(16))
    graph.nodes.insert(2, Node("Reorder", ("m",), ("rows",), {}, OWN_DOMAIN))
    graph.nodes[3] = replace(graph.nodes[3], inputs=("rows",))
    graph.values["rows"] = Value("rows", DType.FLOAT32, (1, 8, 4, 4))
    verify(graph)


def test_our_own_operators_are_checked_too() -> None:
    graph = sound()
    attrs = {"expr": Arg(0), "dtype": DType.FLOAT16}
    graph.nodes[1] = Node("Elementwise", ("c",), ("r",), attrs, OWN_DOMAIN)
    with pytest.raises(ModelError, match="'r' is recorded as float32, but is float16"):
        verify(graph)


def test_order_is_stable_and_follows_subgraphs() -> None:
    body = Graph("body", (), ("inner",), [Node("Add", ("a", "own"), ("inner",))], {}, {}, {})
    body.initializers["own"] = np.zeros(1, "float32")
    branch = Node("If", ("cond",), ("out",), {"then_branch": body, "list": (body,), "n": 1})
    assert captured(body) == ("a",)
    assert reads(branch) == ("cond", "a")
    nodes = [branch, Node("Relu", ("x",), ("b",)), Node("Relu", ("x",), ("a",))]
    assert [n.outputs[0] for n in in_order(nodes, ["x", "cond"])] == ["b", "a", "out"]


def test_a_long_cycle_is_shortened() -> None:
    nodes = [Node("Relu", (f"v{(i + 1) % 9}",), (f"v{i}",)) for i in range(9)]
    with pytest.raises(ModelError, match=r"cycle: Relu -> v0 <- Relu -> v1 .*\(9 nodes\)"):
        in_order(nodes, [])
