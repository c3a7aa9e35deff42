"""A graph divided: runs of nodes on one side, and each run for the CPU as a graph of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rekindle.graph.ir import OWN_DOMAIN, Graph, Node
from rekindle.graph.order import reads
from rekindle.runtime.hybrid.units import Unit

Place = Literal["device", "cpu", "reference"]
"""The device's kernels; ONNX Runtime; the operator's NumPy reference, where neither can."""

PART = "OnnxRuntime"
"""Operator type of the node that stands for a part on the CPU, in our own domain."""


@dataclass(frozen=True)
class Run:
    """Units, by index, that run one after another in one place."""

    place: Place
    units: tuple[int, ...]


def runs_of(units: Sequence[Unit], places: Sequence[Place]) -> list[Run]:
    """All units in a topological order with few changes of place.

    From each place in turn as the first: everything that can run there does, before the place
    changes; the order with the fewest runs wins.
    """
    maker = {name: k for k, unit in enumerate(units) for name in unit.outputs()}
    needs = [
        {maker[name] for node in unit.nodes for name in reads(node) if name in maker} - {k}
        for k, unit in enumerate(units)
    ]
    orders = [_order(needs, places, first) for first in dict.fromkeys(places)]
    return min(orders, key=len, default=[])


def _order(needs: Sequence[set[int]], places: Sequence[Place], first: Place) -> list[Run]:
    waiting = [len(need) for need in needs]
    followers: list[list[int]] = [[] for _ in needs]
    for unit, need in enumerate(needs):
        for other in need:
            followers[other].append(unit)
    ready: dict[Place, list[int]] = {place: [] for place in (first, *places)}
    for unit, count in enumerate(waiting):
        if not count:
            ready[places[unit]].append(unit)
    runs, place = [], first
    while any(ready.values()):
        taken = []
        while ready[place]:
            now, ready[place] = sorted(ready[place]), []
            for unit in now:
                taken.append(unit)
                for follower in followers[unit]:
                    waiting[follower] -= 1
                    if not waiting[follower]:
                        ready[places[follower]].append(follower)
        if taken:
            runs.append(Run(place, tuple(sorted(taken))))
        place = min((p for p in ready if ready[p]), key=lambda p: min(ready[p]), default=place)
    return runs


def divide(
    graph: Graph, units: Sequence[Unit], runs: Sequence[Run]
) -> tuple[Graph, dict[str, Graph]]:
    """The graph with one node for each run on the CPU, and by that node's name its part.

    The node reads and makes what the part does; its operator is `rekindle::OnnxRuntime`, which no
    engine knows, so that passes leave it alone and the planner puts it on the host.
    """
    nodes: list[Node] = []
    parts: dict[str, Graph] = {}
    for run in runs:
        own = [node for k in run.units for node in units[k].nodes]
        if run.place == "cpu":
            name = f"part {len(parts) + 1}"
            part = extract(graph, own, name)
            parts[name] = part
            nodes.append(Node(PART, part.inputs, part.outputs, {}, OWN_DOMAIN, name))
        else:
            nodes += own
    return replace(graph.copy(), nodes=nodes), parts


def extract(graph: Graph, nodes: Sequence[Node], name: str) -> Graph:
    """These nodes, in topological order, as a graph: fed what they read and do not make, giving
    what others read or the graph returns. Constants come along.
    """
    made = dict.fromkeys(n for node in nodes for n in node.outputs if n)
    read = dict.fromkeys(n for node in nodes for n in reads(node) if n not in made)
    own = {id(node) for node in nodes}
    wanted = {n for node in graph.nodes if id(node) not in own for n in reads(node)}
    wanted |= {*graph.outputs}
    constants = {n: graph.initializers[n] for n in read if n in graph.initializers}
    return Graph(
        name,
        tuple(n for n in read if n not in constants),
        tuple(n for n in made if n in wanted),
        list(nodes),
        {n: graph.values[n] for n in (*read, *made)},
        constants,
        dict(graph.opsets),
    )
