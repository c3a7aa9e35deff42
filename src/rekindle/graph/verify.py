"""What must hold of every graph. Tests run it after each pass: the one that breaks is named."""

from __future__ import annotations

import math

from rekindle._errors import ModelError, UnsupportedOperatorError
from rekindle._types import DType, Shape
from rekindle.graph import ops
from rekindle.graph.infer import operands_of
from rekindle.graph.ir import OWN_DOMAIN, Graph, Node, dtype_of
from rekindle.graph.ops import Operator, TensorType
from rekindle.graph.order import reads

BLOCKABLE = (DType.FLOAT32, DType.FLOAT16)
"""Element types that may lie in the channel-blocked layout."""


def verify(graph: Graph) -> None:
    """ModelError naming the first fault: names, order, types, layouts.

    UnsupportedOperatorError for an operator that is not known at the graph's opset.
    """
    _check_names(graph)
    _check_constants(graph)
    for node in graph.nodes:
        operator = ops.find(node.qualified, graph.opset(node.domain))
        if operator is None:
            raise UnsupportedOperatorError(
                f"node {node}: operator {node.qualified} is not known at opset "
                f"{graph.opset(node.domain)}"
            )
        _check_types(graph, node, operator)
        _check_layouts(graph, node, operator)
    _check_ends(graph)


def _check_names(graph: Graph) -> None:
    """Every name is defined once, before it is read; outputs exist; all are typed."""
    defined: set[str] = set()
    for name in (*graph.inputs, *graph.initializers):
        if not name or name in defined:
            raise ModelError(f"value {name!r} is {'defined twice' if name else 'nameless'}")
        defined.add(name)
    for node in graph.nodes:
        for name in reads(node):
            if name not in defined:
                raise ModelError(f"node {node} reads {name!r} before it is made")
        for name in filter(None, node.outputs):
            if name in defined:
                raise ModelError(f"node {node} defines {name!r}, which is defined already")
            defined.add(name)
    for name in graph.outputs:
        if name not in defined:
            raise ModelError(f"output {name!r} is made by no node")
    if len(set(graph.outputs)) < len(graph.outputs):
        raise ModelError(f"an output is there twice: {', '.join(graph.outputs)}")
    for name in graph.names():
        value = graph.values.get(name)
        if value is None or value.name != name:
            raise ModelError(f"value {name!r} has no type")


def _check_constants(graph: Graph) -> None:
    for name, array in graph.initializers.items():
        value = graph.values[name]
        if (value.dtype, value.shape) != (dtype_of(array), array.shape):
            raise ModelError(
                f"initializer {name!r} is {array.dtype}{list(array.shape)}, but recorded as "
                f"{value.dtype}{list(value.shape or ())}"
            )


def _check_types(graph: Graph, node: Node, operator: Operator) -> None:
    types = ops.infer(operator, node, operands_of(graph, node))
    for name, kind in zip(node.outputs, types, strict=True):
        if not name:
            continue
        value = graph.values[name]
        if value.dtype is not kind.dtype:
            raise ModelError(
                f"node {node}: value {name!r} is recorded as {value.dtype}, but is {kind.dtype}"
            )
        if _contradict(value.shape, kind):
            raise ModelError(
                f"node {node}: value {name!r} is recorded as {value.shape}, but is {kind.shape}"
            )


def _contradict(recorded: Shape | None, kind: TensorType) -> bool:
    """Different ranks, or two different sizes in one dimension."""
    if recorded is None or kind.shape is None:
        return False
    return len(recorded) != len(kind.shape) or any(
        isinstance(a, int) and isinstance(b, int) and a != b
        for a, b in zip(recorded, kind.shape, strict=True)
    )


def _check_layouts(graph: Graph, node: Node, operator: Operator) -> None:
    """Blocked values are images of floats, at nodes that take them."""
    blocked = [n for n in (*node.inputs, *node.outputs) if n and graph.values[n].layout.block]
    for name in blocked:
        value = graph.values[name]
        if value.shape is None or len(value.shape) != 4 or value.dtype not in BLOCKABLE:
            raise ModelError(
                f"value {name!r} of {value.dtype}{list(value.shape or ())} cannot be "
                f"{value.layout}: that is for images of floats"
            )
    if len({graph.values[n].layout for n in blocked}) > 1:
        raise ModelError(f"node {node} mixes blocked layouts")
    if (node.domain, node.op_type) == (OWN_DOMAIN, "Reorder"):
        source, result = (graph.values[n] for n in (node.inputs[0], node.outputs[0]))
        if source.layout == result.layout:
            raise ModelError(f"node {node} reorders {source.layout} to {result.layout}")
    elif blocked and operator.layouts == "row-major":
        raise ModelError(f"node {node} takes row-major values only, but {blocked[0]!r} is blocked")
    elif operator.layouts == "any" and graph.values[node.outputs[0]].layout.block:
        _check_elementwise(graph, node)


def _check_elementwise(graph: Graph, node: Node) -> None:
    """What has the size of a blocked result is blocked, too; smaller operands lie as they like."""
    result = graph.values[node.outputs[0]]
    for name in filter(None, node.inputs):
        value = graph.values[name]
        full = math.prod(value.static_shape) == math.prod(result.static_shape)
        if full and math.prod(value.static_shape) > 1 and not value.layout.block:
            raise ModelError(f"node {node} gives a blocked value, but {name!r} is row-major")


def _check_ends(graph: Graph) -> None:
    for name in (*graph.inputs, *graph.outputs):
        if graph.values[name].layout.block:
            raise ModelError(f"value {name!r} enters or leaves the graph, but is blocked")
