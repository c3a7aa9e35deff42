"""Drop nodes whose results nobody reads, and the names of optional outputs nobody reads."""

from __future__ import annotations

from dataclasses import replace

from rekindle._types import Target
from rekindle.graph import ops
from rekindle.graph.ir import Graph, Node
from rekindle.graph.order import reads
from rekindle.graph.passes import register
from rekindle.graph.passes._rewrite import prune


def run(graph: Graph, target: Target | None) -> Graph:
    wanted = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if wanted.isdisjoint(node.outputs):
            continue
        outputs = ops.shortened(node, [n if n in wanted else "" for n in node.outputs])
        kept.append(node if outputs == node.outputs else replace(node, outputs=outputs))
        wanted.update(reads(node))
    return prune(replace(graph, nodes=kept[::-1]))


register("dead_nodes", run)
