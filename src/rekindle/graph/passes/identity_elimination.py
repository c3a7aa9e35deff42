"""Remove nodes that give their first input back unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rekindle._types import Target
from rekindle.graph.ir import Graph, Node
from rekindle.graph.order import Uses
from rekindle.graph.passes import register
from rekindle.graph.passes._rewrite import constant_input, has_input, prune, rename


def run(graph: Graph, target: Target | None) -> Graph:
    uses = Uses.of(graph)
    source: dict[str, str] = {}
    for node in graph.nodes:
        if is_identity(graph, node, uses):
            source[node.outputs[0]] = source.get(node.inputs[0], node.inputs[0])
    # A graph's output keeps its name: the node that made its source makes it directly.
    made: dict[str, str] = {}
    for name in graph.outputs:
        root = source.get(name)
        if root in uses.producer and root not in uses.outputs:
            made.setdefault(root, name)
    names = {name: made.get(root, root) for name, root in source.items()} | made
    result = graph.copy()
    result.nodes = [
        replace(node, outputs=tuple(made.get(n, n) for n in node.outputs))
        for node in rename(graph.nodes, names)
        if not (node.outputs and _gone(node.outputs[0], source, made, uses))
    ]
    return prune(result)


def _gone(name: str, source: dict[str, str], made: dict[str, str], uses: Uses) -> bool:
    """Whether the identity that makes `name` can go; one that feeds an output may have to stay."""
    return name in source and (name not in uses.outputs or made.get(source[name]) == name)


def is_identity(graph: Graph, node: Node, uses: Uses) -> bool:
    """Whether the node's first output always equals its first input."""
    check = _CHECKS.get(node.op_type)
    if node.domain or check is None or not has_input(node, 0):
        return False
    if any(o and (o in uses.readers or o in uses.outputs) for o in node.outputs[1:]):
        return False
    return check(graph, node)


def _always(graph: Graph, node: Node) -> bool:
    return True


def _same_dtype(graph: Graph, node: Node) -> bool:
    return graph.values[node.inputs[0]].dtype is graph.values[node.outputs[0]].dtype


def _same_shape(graph: Graph, node: Node) -> bool:
    """Equal shapes, in figures: a file may call two different dimensions by one name."""
    before, after = graph.values[node.inputs[0]], graph.values[node.outputs[0]]
    return before.is_static and before.shape == after.shape


def _same_order(graph: Graph, node: Node) -> bool:
    shape = graph.values[node.inputs[0]].shape
    perm = node.attr("perm")
    if perm is None:
        return shape is not None and len(shape) < 2
    return tuple(perm) == tuple(range(len(perm)))


def _no_padding(graph: Graph, node: Node) -> bool:
    pads = node.attr("pads")
    if pads is None:
        constant = constant_input(graph, node, 1)
        pads = None if constant is None else constant.tolist()
    return pads is not None and not any(pads)


def _whole_slice(graph: Graph, node: Node) -> bool:
    """The shape stays and no step is negative (a reversal keeps the shape, too)."""
    steps = constant_input(graph, node, 4)
    forward = not has_input(node, 4) or (steps is not None and bool((steps > 0).all()))
    return forward and _same_shape(graph, node)


def _only_input(graph: Graph, node: Node) -> bool:
    return len(node.inputs) == 1


def _inference(graph: Graph, node: Node) -> bool:
    if not has_input(node, 2):
        return True
    training = constant_input(graph, node, 2)
    return training is not None and not training.any()


_CHECKS: dict[str, Callable[[Graph, Node], bool]] = {
    "Cast": _same_dtype,
    "Concat": _only_input,
    "Dropout": _inference,
    "Expand": _same_shape,
    "Flatten": _same_shape,
    "Identity": _always,
    "Max": _only_input,
    "Mean": _only_input,
    "Min": _only_input,
    "Pad": _no_padding,
    "Reshape": _same_shape,
    "Slice": _whole_slice,
    "Squeeze": _same_shape,
    "Sum": _only_input,
    "Tile": _same_shape,
    "Transpose": _same_order,
    "Unsqueeze": _same_shape,
}


register("identity_elimination", run)
