"""What a graph costs: floating point operations and bytes of each node, parameters in all."""

from __future__ import annotations

from dataclasses import dataclass

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph import ops
from rekindle.graph.ir import Graph, Node, Value
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType


@dataclass(frozen=True)
class NodeCost:
    """One node: a multiply-add is two operations; bytes are those of its values, once each."""

    node: Node
    flops: int
    bytes_read: int
    bytes_written: int


def node_costs(graph: Graph) -> list[NodeCost]:
    """The cost of each node, in order; of a bound graph.

    Values whose shape depends on the data count as no bytes and no operations. ModelError names
    an operator that is not known.
    """
    return [_cost(graph, node) for node in graph.nodes]


def parameter_count(graph: Graph) -> int:
    """Elements of the floating point constants that the nodes read, once each."""
    read = {name for node in graph.nodes for name in node.inputs}
    return sum(
        array.size
        for name, array in graph.initializers.items()
        if name in read and graph.values[name].dtype.is_float
    )


def _cost(graph: Graph, node: Node) -> NodeCost:
    operator = ops.find(node.qualified, graph.opset(node.domain))
    if operator is None:
        raise ModelError(f"node {node}: its operator is not known")
    inputs = [graph.values[name] if name else None for name in node.inputs]
    outputs = [graph.values[name] for name in node.outputs if name]
    if not all(v.is_static for v in (*inputs, *outputs) if v is not None):
        return NodeCost(node, 0, 0, 0)
    operands = [_operand(graph, value) for value in inputs]
    types = [TensorType(v.dtype, v.shape) for v in outputs]
    flops = ops.count_flops(operator, node, operands, types)
    if _only_views(graph, node, operator):
        return NodeCost(node, flops, 0, 0)
    written = sum(map(_nbytes, outputs))
    read = {v.name: _nbytes(v) for v in inputs if v is not None}
    if node.op_type == "Gather" and inputs[0] is not None:
        read[inputs[0].name] = min(read[inputs[0].name], written)
    return NodeCost(node, flops, sum(read.values()), written)


def _operand(graph: Graph, value: Value | None) -> Operand | None:
    if value is None:
        return None
    return Operand(value.dtype, value.shape, graph.constant(value.name))


def _nbytes(value: Value) -> int:
    return 0 if value.dtype is DType.STRING else value.nbytes


def _only_views(graph: Graph, node: Node, operator: Operator) -> bool:
    """Whether the node moves nothing: another shape of the same memory."""
    lowering = Lowering(graph, node)
    try:
        ops.lower(operator, lowering)
    except NotLowered:
        return False
    return all(call.name == "view" for call in lowering.calls)
