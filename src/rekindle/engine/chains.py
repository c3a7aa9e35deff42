"""Neighbouring nodes that one kernel does at once become one: `rekindle::Chain`.

The layouts are chosen by then, so that a kernel knows all it asks. Only what a kernel says it does
faster than others one by one is joined; everything else stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rekindle._errors import UnsupportedOperatorError
from rekindle.engine import kernels
from rekindle.engine.kernels import Context
from rekindle.graph import ops
from rekindle.graph.ir import Graph, Node
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops.chain import chain
from rekindle.graph.order import reads

_LONGEST = 3
_LINKS = ("Conv", "GlobalAveragePool", "Mul")
"""Operators of which there are kernels for several at once."""


def join(graph: Graph, context: Context) -> Graph:
    """The graph with chains in place of the nodes they stand for; as it is where there are none."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in reads(node):
            readers.setdefault(name, []).append(node)
    chains: dict[str, Node] = {}
    taken: set[str] = set()
    for node in graph.nodes:
        if node.op_type not in _LINKS or node.outputs[0] in taken:
            continue
        for nodes in _lines(graph, node, readers):
            made = chain(nodes, [graph.values[n.outputs[0]] for n in nodes[:-1]])
            if taken.isdisjoint(n.outputs[0] for n in nodes) and _is_done(graph, made, context):
                taken.update(n.outputs[0] for n in nodes)
                chains[nodes[-1].outputs[0]] = made
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


def _lines(
    graph: Graph, node: Node, readers: Mapping[str, Sequence[Node]]
) -> Iterator[tuple[Node, ...]]:
    """Lines that begin with `node`, the longest first; what lies between nobody else reads."""
    line = [node]
    while len(line) < _LONGEST:
        name = line[-1].outputs[0]
        following = readers.get(name, ())
        if len(following) != 1 or name in graph.outputs or following[0].op_type != "Conv":
            break
        if [n for n in following[0].inputs if n].count(name) != 1 or following[0].inputs[0] != name:
            break
        line.append(following[0])
    while len(line) > 1:
        yield tuple(line)
        line.pop()


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
