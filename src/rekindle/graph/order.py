"""Which names a node reads, who reads a value, and nodes in topological order."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rekindle._errors import ModelError
from rekindle.graph.ir import Graph, Node


def reads(node: Node) -> tuple[str, ...]:
    """Names a node reads, once each: its inputs, and what its subgraphs take from around them."""
    names = dict.fromkeys(n for n in node.inputs if n)
    for graph in subgraphs(node):
        names |= dict.fromkeys(captured(graph))
    return tuple(names)


def subgraphs(node: Node) -> Iterator[Graph]:
    """Graphs among a node's attributes (the branches of If, the body of Loop)."""
    for value in node.attrs.values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Graph):
                yield item


def captured(graph: Graph) -> tuple[str, ...]:
    """Names that a subgraph reads but does not define."""
    own = set(graph.names())
    read = [n for node in graph.nodes for n in reads(node)]
    return tuple(n for n in dict.fromkeys((*read, *graph.outputs)) if n not in own)


@dataclass
class Uses:
    """Who makes and who reads each value of a graph, at one moment."""

    producer: dict[str, Node] = field(default_factory=dict)
    readers: dict[str, list[Node]] = field(default_factory=dict)
    outputs: frozenset[str] = frozenset()

    @classmethod
    def of(cls, graph: Graph) -> Uses:
        readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in reads(node):
                readers.setdefault(name, []).append(node)
        return cls(graph.producers(), readers, frozenset(graph.outputs))

    def sole_reader(self, name: str) -> Node | None:
        """The one node that reads a value nobody else needs; None for all other values."""
        nodes = self.readers.get(name, [])
        return nodes[0] if len(nodes) == 1 and name not in self.outputs else None


def in_order(nodes: Sequence[Node], available: Iterable[str]) -> list[Node]:
    """The nodes such that each stands behind those it reads; otherwise in the given order.

    `available` are the names that no node defines. ModelError for a name nobody defines, and for
    a cycle (it names one).
    """
    home = {out: i for i, node in enumerate(nodes) for out in node.outputs if out}
    known = set(available)
    waiting: list[set[int]] = []
    followers: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        needs = set()
        for name in reads(node):
            if name in home:
                needs.add(home[name])
            elif name not in known:
                raise ModelError(
                    f"node {node} reads {name!r}, which is neither an input, nor an initializer, "
                    "nor made by a node"
                )
        waiting.append(needs)
        for need in needs:
            followers.setdefault(need, []).append(index)
    ready = [i for i, needs in enumerate(waiting) if not needs]
    ordered: list[Node] = []
    while ready:
        index = heapq.heappop(ready)
        ordered.append(nodes[index])
        for follower in followers.get(index, ()):
            waiting[follower].discard(index)
            if not waiting[follower]:
                heapq.heappush(ready, follower)
    if len(ordered) < len(nodes):
        raise ModelError(f"the graph has a cycle: {_cycle(nodes, waiting)}")
    return ordered


def _cycle(nodes: Sequence[Node], waiting: Sequence[set[int]]) -> str:
    """One cycle among the nodes still waiting: each of them waits for another such node."""
    index = next(i for i, needs in enumerate(waiting) if needs)
    path: list[int] = []
    while index not in path:
        path.append(index)
        index = min(waiting[index])
    loop = [nodes[i] for i in path[path.index(index) :]]
    shown = " <- ".join(str(n) for n in loop[:5])
    return shown + (f" <- ... ({len(loop)} nodes)" if len(loop) > 5 else "")
