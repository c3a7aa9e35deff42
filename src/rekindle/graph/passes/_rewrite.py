"""What passes share: who reads a value, renaming, and tidying up afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from rekindle._types import Shape
from rekindle.graph.ir import Array, Graph, Node
from rekindle.graph.order import reads, subgraphs


def rename(nodes: Iterable[Node], names: Mapping[str, str]) -> list[Node]:
    """The nodes reading `names[x]` wherever they read x, also inside their subgraphs."""
    return [_rename(node, names) for node in nodes] if names else list(nodes)


def _rename(node: Node, names: Mapping[str, str]) -> Node:
    if not any(n in names for n in reads(node)):
        return node
    attrs = dict(node.attrs)
    if any(subgraphs(node)):
        for key, value in attrs.items():
            if isinstance(value, Graph):
                attrs[key] = _rename_in(value, names)
            elif isinstance(value, tuple):
                attrs[key] = tuple(
                    _rename_in(v, names) if isinstance(v, Graph) else v for v in value
                )
    inputs = tuple(names.get(n, n) for n in node.inputs)
    return replace(node, inputs=inputs, attrs=attrs)


def _rename_in(graph: Graph, names: Mapping[str, str]) -> Graph:
    own = set(graph.names())
    outer = {old: new for old, new in names.items() if old not in own}
    outputs = tuple(outer.get(n, n) for n in graph.outputs)
    return replace(graph.copy(), nodes=rename(graph.nodes, outer), outputs=outputs)


def prune(graph: Graph) -> Graph:
    """The graph without initializers and types that nothing names any more."""
    used = {n for node in graph.nodes for n in reads(node)} | set(graph.outputs)
    pruned = graph.copy()
    pruned.initializers = {n: a for n, a in graph.initializers.items() if n in used}
    alive = set(pruned.names())
    pruned.values = {n: v for n, v in graph.values.items() if n in alive}
    return pruned


def scalar(array: Array | None) -> float | int | bool | None:
    """The one element of a constant as a Python number; None for anything else."""
    if array is None or array.size != 1 or array.dtype.kind not in "biufV":
        return None
    value: float | int | bool = array.reshape(()).astype(_wide(array)).item()
    return value


def _wide(array: Array) -> str:
    """bfloat16 has no Python number of its own; every value of it is a float."""
    return "float64" if array.dtype.kind in "fV" else array.dtype.name


def is_default(node: Node, *op_types: str) -> bool:
    """Whether a node is one of these operators of ONNX's own domain."""
    return not node.domain and node.op_type in op_types


def has_input(node: Node, index: int) -> bool:
    return index < len(node.inputs) and bool(node.inputs[index])


def constant_input(graph: Graph, node: Node, index: int) -> Array | None:
    """The constant behind an input; None where it is absent or computed."""
    return graph.constant(node.inputs[index]) if has_input(node, index) else None


def reduction_axes(graph: Graph, node: Node) -> tuple[int, ...] | None:
    """Axes of a reduction, an attribute until opset 17, then an input; None where not known."""
    if has_input(node, 1):
        constant = constant_input(graph, node, 1)
        return None if constant is None else tuple(int(a) for a in constant.flat)
    axes: tuple[int, ...] | None = node.attr("axes")
    return axes


def elements(shape: Shape | None) -> int | None:
    """Number of elements; None where a dimension is open."""
    if shape is None or not all(isinstance(d, int) for d in shape):
        return None
    return math.prod(d for d in shape if isinstance(d, int))
