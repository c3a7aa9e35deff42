"""Neighbouring nodes that one kernel does at once become one: `rekindle::Chain`.

The layouts are chosen by then, so that a kernel knows all it asks. Only what a kernel says it does
faster than others one by one is joined; everything else stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rekindle._errors import UnsupportedOperatorError
from rekindle.engine import kernels
from rekindle.engine.kernels import Context
from rekindle.graph import ops
from rekindle.graph.ir import OWN_DOMAIN, Graph, Node, Value
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops.chain import chain
from rekindle.graph.order import Uses

_PATTERNS = (
    ("GlobalAveragePool", "Conv of a pixel", "Conv of a pixel"),  # squeeze and excite
    ("Conv of a pixel", "Conv of a pixel"),  # that without the mean
    ("Conv", "Conv in groups"),  # expansion, depthwise
    ("Conv in groups", "Conv"),  # depthwise, projection
    ("Mul", "Conv"),  # by the gate, projection
)
"""What there are kernels for. Others are not asked about, which would take longer than to plan."""


def join(graph: Graph, context: Context) -> Graph:
    """The graph with chains in place of the nodes they stand for; as it is where there are none."""
    uses = Uses.of(graph)
    chains: dict[str, Node] = {}
    taken: set[str] = set()
    for node in graph.nodes:
        for pattern in _PATTERNS:
            line = _line(graph, node, pattern, uses)
            names = [each.outputs[0] for each in line]
            if not line or not taken.isdisjoint(names):
                continue
            made = chain(line, [graph.values[name] for name in names[:-1]])
            if _is_done(graph, made, context):
                taken.update(names)
                chains[names[-1]] = made
                break
    if not chains:
        return graph
    result = graph.copy()
    # A chain stands where its last node stood: all that it reads exists there.
    result.nodes = []
    for node in graph.nodes:
        if taken.isdisjoint(node.outputs):
            result.nodes.append(node)
        elif node.outputs[0] in chains:
            result.nodes.append(chains[node.outputs[0]])
    return result


def _line(graph: Graph, node: Node, pattern: Sequence[str], uses: Uses) -> tuple[Node, ...]:
    """The nodes from `node` on that the pattern names, if what lies between nobody else reads."""
    line: list[Node] = []
    for kind in pattern:
        if line:
            name = line[-1].outputs[0]
            following = uses.sole_reader(name)
            if following is None or [k for k, n in enumerate(following.inputs) if n == name] != [0]:
                return ()
            node = following
        if _kind(graph, node) != kind:
            return ()
        line.append(node)
    return tuple(line)


def _kind(graph: Graph, node: Node) -> str:
    if node.op_type == "Conv" and _is_pixel(graph.values[node.inputs[0]]):
        return "Conv of a pixel"
    if node.op_type == "Conv" and int(node.attr("group", 1)) > 1:
        return "Conv in groups"
    return node.op_type if node.domain in ("", OWN_DOMAIN) else node.qualified


def _is_pixel(value: Value) -> bool:
    return value.is_static and math.prod(value.static_shape[2:]) == 1


def _is_done(graph: Graph, node: Node, context: Context) -> bool:
    """Whether a kernel does the chain."""
    operator = ops.find(node.qualified, 1)
    assert operator is not None
    lowering = Lowering(graph, node)
    try:
        ops.lower(operator, lowering)
    except UnsupportedOperatorError:
        return False
    return kernels.choose(lowering.calls[-1], context) is not None
