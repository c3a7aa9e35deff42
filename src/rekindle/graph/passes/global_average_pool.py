"""A mean over all spatial axes is a global average pool, which takes blocked images.

Without kept dimensions a Flatten follows, which costs nothing.
"""

from __future__ import annotations

from dataclasses import replace

from rekindle._types import Target
from rekindle.graph.ir import Graph, Node, Value
from rekindle.graph.passes import register
from rekindle.graph.passes._rewrite import constant_input, has_input, is_default, prune


def run(graph: Graph, target: Target | None) -> Graph:
    result = graph.copy()
    result.nodes = [new for node in graph.nodes for new in _rewrite(result, node)]
    return prune(result)


def _rewrite(graph: Graph, node: Node) -> list[Node]:
    if not is_default(node, "ReduceMean"):
        return [node]
    value = graph.values[node.inputs[0]]
    rank = len(value.shape or ())
    axes = _axes(graph, node)
    spatial = set(range(2, rank))
    if axes is None or not value.dtype.is_float or rank < 3 or {a % rank for a in axes} != spatial:
        return [node]
    pool = replace(node, op_type="GlobalAveragePool", inputs=node.inputs[:1], attrs={})
    if node.attr("keepdims", 1):
        return [pool]
    assert value.shape is not None
    image = graph.fresh(f"{node.outputs[0]}.pooled")
    graph.values[image] = Value(image, value.dtype, (*value.shape[:2], *(1,) * len(spatial)))
    flatten = Node("Flatten", (image,), node.outputs, {"axis": 1})
    return [replace(pool, outputs=(image,)), flatten]


def _axes(graph: Graph, node: Node) -> tuple[int, ...] | None:
    """Axes of a reduction, an attribute until opset 17, then an input; None where not known."""
    if has_input(node, 1):
        constant = constant_input(graph, node, 1)
        return None if constant is None else tuple(int(a) for a in constant.flat)
    axes: tuple[int, ...] | None = node.attr("axes")
    return axes


register("global_average_pool", run)
