"""A mean over all spatial axes is a global average pool, which takes blocked images.

Without kept dimensions a Flatten follows, which costs nothing.
"""

from __future__ import annotations

from dataclasses import replace

from rekindle._types import Target
from rekindle.graph.ir import Graph, Node, Value
from rekindle.graph.passes import register
from rekindle.graph.passes._rewrite import is_default, prune, reduction_axes


def run(graph: Graph, target: Target | None) -> Graph:
    result = graph.copy()
    result.nodes = [new for node in graph.nodes for new in _rewrite(result, node)]
    return prune(result)


def _rewrite(graph: Graph, node: Node) -> list[Node]:
    if not is_default(node, "ReduceMean"):
        return [node]
    value = graph.values[node.inputs[0]]
    rank = len(value.shape or ())
    axes = reduction_axes(graph, node)
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


register("global_average_pool", run)
