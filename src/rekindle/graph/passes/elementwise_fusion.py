"""Chains and diamonds of elementwise nodes become one `rekindle::Elementwise`.

Fusion is substitution of expressions: x * sigmoid(x), the pieces of GELU or Mish, a residual and
its activation. A node joins the nodes that read it if nobody else does, and if its result has
the shape of theirs, so that nothing is computed twice.
"""

from __future__ import annotations

from rekindle._types import Target
from rekindle.graph.ir import OWN_DOMAIN, Graph, Node
from rekindle.graph.order import Uses
from rekindle.graph.passes import register
from rekindle.graph.passes._fuse import Elementwise, composes, elementwise
from rekindle.graph.passes._rewrite import prune


def run(graph: Graph, target: Target | None) -> Graph:
    uses = Uses.of(graph)
    fused: dict[int, Node] = {}
    gone: set[int] = set()
    for sink in reversed(graph.nodes):
        own = elementwise(graph, sink) if id(sink) not in gone else None
        if own is None:
            continue
        whole, members = _grow(graph, uses, sink, own)
        if members:
            gone |= members
            fused[id(sink)] = _node(graph, sink, whole)
    result = graph.copy()
    result.nodes = [fused.get(id(n), n) for n in graph.nodes if id(n) not in gone]
    return prune(result)


def _grow(graph: Graph, uses: Uses, sink: Node, whole: Elementwise) -> tuple[Elementwise, set[int]]:
    """The largest expression that ends in `sink`, and the nodes it makes superfluous."""
    shape = graph.values[sink.outputs[0]].shape
    members: set[int] = set()
    refused: set[str] = set()
    while True:
        name = next((n for n in whole.names if n not in refused), None)
        if name is None:
            return whole, members
        inner = _absorbable(graph, uses, name, members | {id(sink)})
        refused.add(name)
        if inner is None or graph.values[name].shape != shape:
            continue
        larger = whole.absorb(name, inner)
        if larger.fits:
            whole = larger
            members.add(id(uses.producer[name]))
            refused.clear()  # a diamond: with one more reader inside, its source may join


def _absorbable(graph: Graph, uses: Uses, name: str, members: set[int]) -> Elementwise | None:
    """The expression behind a value that only `members` read; None where it must stay."""
    node = uses.producer.get(name)
    if node is None or name in uses.outputs:
        return None
    if any(id(reader) not in members for reader in uses.readers[name]):
        return None
    inner = elementwise(graph, node)
    return inner if inner is not None and composes(graph, node, inner) else None


def _node(graph: Graph, sink: Node, whole: Elementwise) -> Node:
    attrs = {"expr": whole.expr, "dtype": graph.values[sink.outputs[0]].dtype}
    return Node("Elementwise", whole.names, sink.outputs, attrs, OWN_DOMAIN, sink.name)


register("elementwise_fusion", run)
