"""Put the parts of a composite operator in its place (`graph.ops._composite`).

Only where the graph's opset means the same by every part as the composite does; other nodes stay
whole, and are lowered so. Constants that parts make of constants are computed at once.
"""

from __future__ import annotations

from dataclasses import replace

from rekindle._types import Target
from rekindle.graph import ops
from rekindle.graph.infer import fold
from rekindle.graph.ir import Array, Graph, Node
from rekindle.graph.passes import register
from rekindle.graph.passes._rewrite import prune


def run(graph: Graph, target: Target | None) -> Graph:
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    for node in graph.nodes:
        found = _parts(graph, node)
        if found is None:
            nodes.append(node)
        else:
            nodes += found[0]
            constants |= found[1]
    if len(nodes) == len(graph.nodes):
        return graph
    expanded = replace(graph.copy(), nodes=nodes, initializers={**graph.initializers, **constants})
    return prune(fold(expanded))


def _parts(graph: Graph, node: Node) -> tuple[list[Node], dict[str, Array]] | None:
    """The node's parts and their constants; None where it stays."""
    operator = ops.find(node.qualified, graph.opset(node.domain))
    inputs = [graph.values[n] for n in node.inputs if n]
    if operator is None or operator.expand is None or not all(v.is_static for v in inputs):
        return None
    parts, constants = operator.expand(graph, node)
    for part in parts:
        if ops.find(part.node.qualified, graph.opset(part.node.domain)) is not part.operator:
            return None
    return [part.node for part in parts], constants


register("expansion", run)
