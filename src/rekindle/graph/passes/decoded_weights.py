"""Quantised weights become floats: what `precision="fp32"` asks of a model that has some."""

from __future__ import annotations

from rekindle._types import Target
from rekindle.graph.infer import fold
from rekindle.graph.ir import Graph
from rekindle.graph.passes import register
from rekindle.graph.passes._rewrite import prune


def run(graph: Graph, target: Target | None) -> Graph:
    return prune(fold(graph, weights=True))


register("decoded_weights", run)
