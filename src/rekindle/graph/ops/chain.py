"""rekindle::Chain: nodes of which each one's first input is the result of the one before.

The planner joins nodes into a chain where a kernel does them at once, without storing what lies
between. Attributes: `nodes`, as they stood in the graph; `between`, the Values that they pass on.
Inputs: all others that the nodes read, in order (absent ones as such); output: that of the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from rekindle.graph import ops
from rekindle.graph.ir import OWN_DOMAIN, Array, Node, Value
from rekindle.graph.lowering import LogicalCall, Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType, register

NAMES = ("rekindle::Chain",)
_OPSET = 1 << 30
"""The newest operators: what a chain joins means the same in every version that is here."""

T = TypeVar("T")


def chain(nodes: Sequence[Node], between: Sequence[Value]) -> Node:
    """The node that stands for `nodes`; `between[i]` is the result of node i."""
    inner = {value.name for value in between}
    inputs = tuple(name for node in nodes for name in node.inputs if name not in inner)
    attrs = {"nodes": tuple(nodes), "between": tuple(between)}
    label = " + ".join(node.name or node.outputs[0] for node in nodes)
    return Node("Chain", inputs, nodes[-1].outputs, attrs, OWN_DOMAIN, label)


def _inner(node: Node) -> Iterator[tuple[Operator, Node]]:
    for each in node.attrs["nodes"]:
        operator = ops.find(each.qualified, _OPSET)
        if operator is None:
            raise ValueError(f"{each.qualified} is not known")
        yield operator, each


def _given(node: Node, inputs: Sequence[T | None]) -> dict[str, T | None]:
    return {"": None, **dict(zip(node.inputs, inputs, strict=True))}


def _typed(node: Node, inputs: Sequence[Operand | None]) -> dict[str, Operand | None]:
    known = _given(node, inputs)
    for operator, each in _inner(node):
        types = ops.infer(operator, each, [known[n] for n in each.inputs])
        made = (Operand(t.dtype, t.shape) for t in types)
        known |= dict(zip(each.outputs, made, strict=True))
    return known


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    last = _typed(node, inputs)[node.outputs[0]]
    assert last is not None
    return (TensorType(last.dtype, last.shape),)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    known: Mapping[str, Array | None] = _given(node, inputs)
    for operator, each in _inner(node):
        made = ops.compute(operator, each, [known[n] for n in each.inputs])
        known = {**known, **dict(zip(each.outputs, made, strict=True))}
    last = known[node.outputs[0]]
    assert last is not None
    return (last,)


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    known, total = _typed(node, inputs), 0
    for operator, each in _inner(node):
        made = [known[n] for n in each.outputs]
        types = [TensorType(o.dtype, o.shape) for o in made if o is not None]
        total += ops.count_flops(operator, each, [known[n] for n in each.inputs], types)
    return total


def _lower(lowering: Lowering) -> None:
    node, values = lowering.node, dict(lowering.graph.values)
    values |= {value.name: value for value in node.attrs["between"]}
    graph = replace(lowering.graph, values=values)
    parts: list[LogicalCall] = []
    for operator, each in _inner(node):
        own = Lowering(graph, each)
        ops.lower(operator, own)
        if len(own.calls) != 1:
            raise NotLowered(f"{each} is {len(own.calls)} calls, which nothing does at once")
        parts += own.calls
        lowering.literals |= own.literals
    lowering.call("chain", lowering.inputs, lowering.output)
    lowering.calls[-1] = replace(lowering.calls[-1], parts=tuple(parts))


register(
    "rekindle::Chain",
    Operator(
        since=1,
        infer=_infer,
        reference=_reference,
        lower=_lower,
        flops=_flops,
        layouts="spatial",
    ),
)
