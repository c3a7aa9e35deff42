"""Choose where images lie channel-blocked, and put a Reorder wherever the layout changes.

Convolutions work on blocked images (16 channels side by side on CPUs, 4 on GPUs); pools and
elementwise nodes between them keep the layout; everything else reads row-major. A value has one
home layout; a reader that needs the other one shares its Reorder with all such readers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain

from rekindle._errors import UsageError
from rekindle._types import Layout, Target
from rekindle.graph.ir import OWN_DOMAIN, Graph, Node
from rekindle.graph.order import captured, subgraphs
from rekindle.graph.passes import register
from rekindle.graph.passes._layout_choice import Choice, choose
from rekindle.graph.passes._rewrite import prune


def run(graph: Graph, target: Target | None) -> Graph:
    if target is None:
        raise UsageError("the layout pass needs a target", hint="pass the device's Target")
    layout = Layout(target.channel_block)
    choice = choose(graph, layout.block)
    return prune(_Writer(graph.copy(), graph, layout, choice).run()) if choice.blocked else graph


@dataclass
class _Writer:
    """Writes the nodes again, reading each value in the layout its reader needs."""

    result: Graph
    source: Graph
    layout: Layout
    choice: Choice
    blocked: dict[str, str] = field(default_factory=dict)
    """Value → name under which it lies blocked."""
    rows: dict[str, str] = field(default_factory=dict)
    """Blocked value → name under which it lies row-major."""
    fixed: frozenset[str] = frozenset()
    """Names that must stay row-major: outputs of the graph, and what subgraphs read."""

    def __post_init__(self) -> None:
        inner = [captured(g) for node in self.source.nodes for g in subgraphs(node)]
        self.fixed = frozenset((*self.source.outputs, *chain.from_iterable(inner)))

    def run(self) -> Graph:
        self.result.nodes = []
        for node in self.source.nodes:
            inputs = tuple(self._input(node, i, n) for i, n in enumerate(node.inputs))
            outputs = tuple(self._output(n) for n in node.outputs)
            self.result.nodes.append(replace(node, inputs=inputs, outputs=outputs))
            for name in node.outputs:
                if name in self.choice.blocked and name in self.fixed:
                    self._reorder(self.blocked[name], name, Layout())
                    self.rows[name] = name
        return self.result

    def _output(self, name: str) -> str:
        """The blocked result takes the value's name, unless that must stay row-major."""
        if name not in self.choice.blocked:
            return name
        value = self.source.values[name]
        home = self.result.fresh(f"{name}.blocked") if name in self.fixed else name
        self.result.values[home] = replace(value, name=home, layout=self.layout)
        self.blocked[name] = home
        return home

    def _input(self, node: Node, index: int, name: str) -> str:
        if not name:
            return name
        if self.choice.needs_blocked(node, index):
            return self._as_blocked(name)
        if self.choice.takes_either(node, index):
            return self.blocked.get(name, name)
        return self._as_rows(name)

    def _as_blocked(self, name: str) -> str:
        if name not in self.blocked:
            home = self.result.fresh(f"{name}.blocked")
            self.blocked[name] = home
            self._reorder(name, home, self.layout)
        return self.blocked[name]

    def _as_rows(self, name: str) -> str:
        if name not in self.choice.blocked:
            return name
        if name not in self.rows:
            self.rows[name] = self.result.fresh(f"{name}.rows")
            self._reorder(self.blocked[name], self.rows[name], Layout())
        return self.rows[name]

    def _reorder(self, source: str, name: str, layout: Layout) -> None:
        value = self.result.values[source]
        self.result.values[name] = replace(value, name=name, layout=layout)
        self.result.nodes.append(Node("Reorder", (source,), (name,), {}, OWN_DOMAIN))


register("layout", run)
