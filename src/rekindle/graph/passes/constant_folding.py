"""Compute what does not depend on the inputs; the results become initializers."""

from __future__ import annotations

from rekindle._types import Target
from rekindle.graph.infer import fold
from rekindle.graph.ir import Graph
from rekindle.graph.passes import register
from rekindle.graph.passes._rewrite import prune


def run(graph: Graph, target: Target | None) -> Graph:
    return prune(fold(graph))


register("constant_folding", run)
