"""Subgraphs of control flow: types and values of a closed graph, node by node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import UnsupportedOperatorError
from rekindle.graph import ops
from rekindle.graph.ir import Array, Graph, Node, dtype_of
from rekindle.graph.ops import Operand, Operator, TensorType


def _operator(graph: Graph, node: Node) -> Operator:
    found = ops.find(node.qualified, graph.opset(node.domain))
    if found is None:
        raise UnsupportedOperatorError(
            f"a subgraph has an operator that is not supported: {node.qualified}",
            hint="run it with provider='onnxruntime'",
        )
    return found


def infer_graph(graph: Graph, operands: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    """Types of the graph's outputs, for one operand per input (None: absent, and not read)."""
    known = {n: o for n, o in zip(graph.inputs, operands, strict=True) if o is not None}
    for name, array in graph.initializers.items():
        known[name] = Operand(dtype_of(array), array.shape, array)
    for node in graph.nodes:
        read = [known[n] if n else None for n in node.inputs]
        types = ops.infer(_operator(graph, node), node, read)
        for name, kind in zip(node.outputs, types, strict=True):
            if name:
                known[name] = Operand(kind.dtype, kind.shape, kind.constant)
    return tuple(TensorType(known[n].dtype, known[n].shape) for n in graph.outputs)


def compute_graph(graph: Graph, arrays: Sequence[Array | None]) -> tuple[Array, ...]:
    """The graph's outputs, for one array per input."""
    values = dict(graph.initializers)
    values |= {n: a for n, a in zip(graph.inputs, arrays, strict=True) if a is not None}
    for node in graph.nodes:
        read = [values[n] if n else None for n in node.inputs]
        made = ops.compute(_operator(graph, node), node, read)
        values |= {n: np.asarray(a) for n, a in zip(node.outputs, made, strict=True) if n}
    return tuple(values[n] for n in graph.outputs)
