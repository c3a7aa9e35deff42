"""Which values lie channel-blocked: decided for the whole graph before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

from rekindle.graph import ops
from rekindle.graph.ir import OWN_DOMAIN, Graph, Node
from rekindle.graph.passes._fuse import is_single
from rekindle.graph.passes._rewrite import elements
from rekindle.graph.verify import BLOCKABLE

_STEM_CHANNELS = 4
"""A convolution reads an image of so few channels row-major: blocks would be mostly padding."""

_POOLS = ("AveragePool", "MaxPool")
_GLOBAL_POOLS = ("GlobalAveragePool", "GlobalMaxPool")


@dataclass(frozen=True)
class Choice:
    """The decision: names of blocked values, and what each node reads."""

    graph: Graph
    blocked: frozenset[str]

    def needs_blocked(self, node: Node, index: int) -> bool:
        """Whether the node reads input `index` blocked; elementwise: what has the result's size."""
        if not node.outputs or node.outputs[0] not in self.blocked:
            return False
        if is_conv(node):
            if index == 0:
                return node.inputs[0] in self.blocked or not reads_rows(self.graph, node)
            return index > 2 and not is_single(self.graph, node.inputs[index])
        if is_pool(node) or is_concat(node):
            return True
        return not is_global_pool(node) and is_full(self.graph, node, node.inputs[index])

    def takes_either(self, node: Node, index: int) -> bool:
        """Whether the node reads input `index` in whatever layout it lies."""
        if is_global_pool(node):
            return is_image(self.graph, node.inputs[0])
        return bool(node.outputs) and node.outputs[0] in self.blocked and not is_conv(node)


def choose(graph: Graph, block: int) -> Choice:
    """Blocked: results of convolutions that can, and what follows them at no cost."""
    wanted = _wanted(graph, block)
    blocked: set[str] = set()
    for node in graph.nodes:
        if len([n for n in node.outputs if n]) != 1 or not is_image(graph, node.outputs[0]):
            continue
        name = node.outputs[0]
        if is_conv(node):
            follow = blockable_conv(graph, node, block)
        elif is_pool(node):
            follow = node.inputs[0] in blocked
        elif is_global_pool(node):
            follow = node.inputs[0] in blocked and name in wanted
        elif is_concat(node):
            inside = any(n in blocked for n in node.inputs)
            follow = inside and name in wanted and _joins_blocks(graph, node, block)
        else:
            follow = _follows(graph, node, blocked, wanted)
        if follow:
            blocked.add(name)
    return Choice(graph, frozenset(blocked))


def _wanted(graph: Graph, block: int) -> set[str]:
    """Values that some convolution further on would read blocked."""
    wanted: set[str] = set()
    for node in reversed(graph.nodes):
        if is_conv(node) and blockable_conv(graph, node, block):
            if not reads_rows(graph, node):
                wanted.add(node.inputs[0])
            wanted.update(n for n in node.inputs[3:] if not is_single(graph, n))
        elif (
            node.outputs
            and node.outputs[0] in wanted
            and (is_pool(node) or _joins_blocks(graph, node, block) or _keeps_layout(graph, node))
        ):
            wanted.update(n for n in node.inputs if n)
    return wanted


def _follows(graph: Graph, node: Node, blocked: set[str], wanted: set[str]) -> bool:
    """Whether an elementwise node works on blocked operands: the cheaper of the two layouts."""
    if not _keeps_layout(graph, node):
        return False
    full = [n for n in dict.fromkeys(node.inputs) if n and is_full(graph, node, n)]
    inside = sum(n in blocked for n in full)
    outside = len(full) - inside
    return inside > 0 and inside + (node.outputs[0] in wanted) > outside


def _joins_blocks(graph: Graph, node: Node, block: int) -> bool:
    """Whether a Concat joins images along their channels at the borders of blocks."""
    if not is_concat(node) or not all(is_image(graph, n) for n in (*node.inputs, *node.outputs)):
        return False
    channels = [graph.values[n].static_shape[1] for n in node.inputs]
    axis = int(node.attr("axis"))
    return axis in (1, -3) and not any(c % block for c in channels[:-1])


def _keeps_layout(graph: Graph, node: Node) -> bool:
    """Whether an elementwise node could run blocked: its result and full operands can be."""
    operator = ops.find(node.qualified, graph.opset(node.domain))
    if operator is None or operator.layouts != "any" or node.op_type == "Reorder":
        return False
    full = (n for n in node.inputs if n and is_full(graph, node, n))
    return is_image(graph, node.outputs[0]) and all(is_image(graph, n) for n in full)


def is_full(graph: Graph, node: Node, name: str) -> bool:
    """Whether an operand has as many elements as the node's result.

    Smaller ones, being broadcast, are read in any layout.
    """
    return elements(graph.values[name].shape) == elements(graph.values[node.outputs[0]].shape)


def is_image(graph: Graph, name: str) -> bool:
    """Whether a value may lie blocked: four known axes, floats. An absent one may not."""
    if not name:
        return False
    value = graph.values[name]
    return value.is_static and len(value.static_shape) == 4 and value.dtype in BLOCKABLE


def is_conv(node: Node) -> bool:
    return node.op_type == "Conv" and node.domain in ("", OWN_DOMAIN)


def is_pool(node: Node) -> bool:
    return node.op_type in _POOLS and not node.domain


def is_concat(node: Node) -> bool:
    return node.op_type == "Concat" and not node.domain


def is_global_pool(node: Node) -> bool:
    return node.op_type in _GLOBAL_POOLS and not node.domain


def blockable_conv(graph: Graph, node: Node, block: int) -> bool:
    """Whether a convolution works on blocks: no two groups share one, unless it is depthwise."""
    if not is_image(graph, node.outputs[0]) or not is_image(graph, node.inputs[0]):
        return False
    group = int(node.attr("group", 1))
    ins = graph.values[node.inputs[0]].static_shape[1]
    outs = graph.values[node.outputs[0]].static_shape[1]
    if group == 1 or group == ins == outs:
        return True
    return (ins // group) % block == 0 and (outs // group) % block == 0


def reads_rows(graph: Graph, node: Node) -> bool:
    """Whether a convolution may read its image row-major: the first layer of a network."""
    channels = graph.values[node.inputs[0]].static_shape[1]
    return int(node.attr("group", 1)) == 1 and channels <= _STEM_CHANNELS
