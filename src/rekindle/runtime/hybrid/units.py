"""Units: what is placed as a whole, so that dividing a model breaks no fusion.

The device's own plan of the whole model says which nodes it would fuse: a node whose result no
step of that plan makes is gone into the node that reads it. Such nodes go where their reader goes.
Contracting a node into the only unit that reads it never makes a cycle, so units are a graph, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rekindle.engine.plan import HostStep, Plan, Step
from rekindle.graph.ir import Graph, Node
from rekindle.graph.order import reads


@dataclass(frozen=True)
class Unit:
    """Nodes of the graph, in its order, and what the device would run for them."""

    nodes: tuple[Node, ...]
    steps: tuple[Step, ...]

    @property
    def impossible(self) -> str | None:
        """Why no kernel of the device runs it; None: one does."""
        return next((s.reason for s in self.steps if isinstance(s, HostStep)), None)

    def outputs(self) -> Iterable[str]:
        return (name for node in self.nodes for name in node.outputs if name)


def units_of(graph: Graph, plan: Plan) -> list[Unit]:
    """The units of a bound graph, in topological order. `plan` is the device's, of all of it."""
    made = {name for step in plan.steps for name in step.node.outputs if name}
    owner = _owners(graph, made)
    steps: dict[int, list[Step]] = {}
    for step, home in zip(plan.steps, _homes(graph, plan, owner), strict=True):
        steps.setdefault(home, []).append(step)
    nodes: dict[int, list[Node]] = {}
    for index, node in enumerate(graph.nodes):
        nodes.setdefault(owner[index], []).append(node)
    return [Unit(tuple(nodes[k]), tuple(steps.get(k, ()))) for k in sorted(nodes)]


def _owners(graph: Graph, made: set[str]) -> list[int]:
    """Per node the last node of its unit: itself, or that of everyone who reads it."""
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(graph.nodes):
        for name in reads(node):
            readers.setdefault(name, []).append(index)
    owner = list(range(len(graph.nodes)))
    for index in reversed(owner):
        outputs = [name for name in graph.nodes[index].outputs if name]
        if made.isdisjoint(outputs) and not {*outputs} & {*graph.outputs}:
            homes = {owner[reader] for name in outputs for reader in readers.get(name, ())}
            if len(homes) == 1:
                owner[index] = homes.pop()
    return owner


def _homes(graph: Graph, plan: Plan, owner: list[int]) -> list[int]:
    """Per step the unit it belongs to: that of its result, or of the next step that reads it.

    Passes give names of their own to what is only between steps (another layout, a part of a
    composite operator).
    """
    unit = {
        name: owner[index]
        for index, node in enumerate(graph.nodes)
        for name in node.outputs
        if name
    }
    last = max(owner, default=0)
    homes: list[int] = []
    for step in reversed(plan.steps):
        outputs = [name for name in step.node.outputs if name]
        home = next((unit[name] for name in outputs if name in unit), last)
        unit |= {name: home for name in reads(step.node) if name not in unit}
        homes.append(home)
    return homes[::-1]
