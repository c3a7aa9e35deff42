"""Attention as exporters write it becomes one node: two products around a softmax.

    MatMul(q, k') -> [Mul | Div by a number] -> [Add mask] -> Softmax -> MatMul(., v)

with the Transposes that put heads beside the batch, before and after, taken along as orders of
axes. The scores exist nowhere else, so the node needs no memory for them.
"""

from __future__ import annotations

from dataclasses import dataclass

from rekindle._types import DType, Target
from rekindle.graph.ir import OWN_DOMAIN, Graph, Node
from rekindle.graph.ops._attributes import integer
from rekindle.graph.order import Uses
from rekindle.graph.passes import register
from rekindle.graph.passes._rewrite import is_default, scalar
from rekindle.graph.passes.dead_nodes import run as dead_nodes

_RANK = 4
_IDENTITY = tuple(range(_RANK))


@dataclass(frozen=True)
class _Scores:
    """softmax's input, taken apart: scale * product + mask."""

    product: Node
    scale: float
    mask: str


def run(graph: Graph, target: Target | None) -> Graph:
    uses = Uses.of(graph)
    fused: dict[str, Node] = {}
    for node in graph.nodes:
        made = _fuse(graph, uses, node)
        if made is not None:
            fused[made.outputs[0]] = made
    if not fused:
        return graph
    result = graph.copy()
    result.nodes = [fused.get(n.outputs[0], n) if n.outputs else n for n in graph.nodes]
    return dead_nodes(result, target)  # what led to the scores: later passes count readers


def _fuse(graph: Graph, uses: Uses, node: Node) -> Node | None:
    """The fused node in place of the last product, or of the Transpose behind it."""
    after = None
    if is_default(node, "Transpose"):
        after, product = node, uses.producer.get(node.inputs[0])
        if product is None or uses.sole_reader(node.inputs[0]) is not node:
            return None
    else:
        product = node
        reader = uses.sole_reader(node.outputs[0]) if node.outputs else None
        if reader is not None and _axes(reader, keeps_last=True) is not None:
            return None  # it will be fused with its Transpose
    if not _is_product(graph, product):
        return None
    softmax = uses.producer.get(product.inputs[0])
    if softmax is None or not _is_softmax(graph, uses, softmax, product):
        return None
    scores = _scores(graph, uses, softmax)
    if scores is None or not _is_product(graph, scores.product):
        return None
    y_axes = _axes(after, keeps_last=True) if after is not None else _IDENTITY
    if y_axes is None:
        return None
    q = _source(graph, uses, scores.product.inputs[0], transposed=False)
    k = _source(graph, uses, scores.product.inputs[1], transposed=True)
    v = _source(graph, uses, product.inputs[1], transposed=False)
    shapes = [tuple(graph.values[s.name].static_shape[a] for a in s.axes) for s in (q, k, v)]
    if k.axes[3] != 3 or v.factor != 1.0 or len({s[:2] for s in shapes}) != 1:
        return None  # keys lie apart in memory, or heads are shared by broadcasting
    attrs = {
        "scale": scores.scale * q.factor * k.factor,
        "q_axes": q.axes, "k_axes": k.axes, "v_axes": v.axes, "y_axes": y_axes,
    }  # fmt: skip
    inputs = (q.name, k.name, v.name, *([scores.mask] if scores.mask else []))
    return Node("Attention", inputs, node.outputs, attrs, OWN_DOMAIN, softmax.name)


def _is_product(graph: Graph, node: Node) -> bool:
    values = [graph.values[n] for n in (*node.inputs, *node.outputs) if n]
    return is_default(node, "MatMul") and all(
        v.is_static and len(v.static_shape) == _RANK and v.dtype is DType.FLOAT32 for v in values
    )


def _is_softmax(graph: Graph, uses: Uses, node: Node, reader: Node) -> bool:
    return (
        is_default(node, "Softmax")
        and graph.opset("") >= 13
        and integer(node, "axis", -1) in (-1, _RANK - 1)
        and uses.sole_reader(node.outputs[0]) is reader
    )


def _scores(graph: Graph, uses: Uses, softmax: Node) -> _Scores | None:
    """From the softmax back to the product, over one mask and any number of factors."""
    scale, mask, reader = 1.0, "", softmax
    name = softmax.inputs[0]
    while uses.sole_reader(name) is reader:
        node = uses.producer.get(name)
        if node is None:
            return None
        if is_default(node, "MatMul"):
            return _Scores(node, scale, mask)
        step = _step(graph, node)
        if step is None or (step.mask and (mask or scale != 1.0)):
            return None  # a mask that is scaled afterwards is another mask
        scale, mask = scale * step.factor, mask or step.mask
        name, reader = step.name, node
    return None


@dataclass(frozen=True)
class _Step:
    name: str
    factor: float = 1.0
    mask: str = ""


def _step(graph: Graph, node: Node) -> _Step | None:
    """One operator between product and softmax, from its output to the input that goes on."""
    if not is_default(node, "Mul", "Div", "Add"):
        return None
    whole = graph.values[node.outputs[0]].shape
    for index in (0, 1):
        name, other = node.inputs[index], node.inputs[1 - index]
        if graph.values[name].shape != whole or graph.values[name].shape is None:
            continue
        number = scalar(graph.constant(other))
        if node.op_type == "Add":
            if _is_mask(graph, other, whole):
                return _Step(name, mask=other)
        elif number and (node.op_type == "Mul" or index == 0):
            return _Step(name, number if node.op_type == "Mul" else 1 / number)
    return None


def _is_mask(graph: Graph, name: str, whole: object) -> bool:
    """Float32 that broadcasts to the scores and has all keys."""
    value = graph.values[name]
    return (
        isinstance(whole, tuple)
        and value.dtype is DType.FLOAT32
        and value.is_static
        and 1 <= len(value.static_shape) <= _RANK
        and value.static_shape[-1] == whole[-1]
        and all(
            d in (1, w) for d, w in zip(reversed(value.static_shape), reversed(whole), strict=False)
        )
    )


@dataclass(frozen=True)
class _Source:
    """A product's input as (batch, heads, rows, size): `factor` times `name`, its axes reordered.

    Exporters scale queries and keys apart, by the root of what the scores would be scaled by.
    """

    name: str
    axes: tuple[int, ...]
    factor: float


def _source(graph: Graph, uses: Uses, name: str, *, transposed: bool) -> _Source:
    """Behind its factors and its Transpose. `transposed`: the product wants (size, rows)."""
    factor, node = 1.0, uses.producer.get(name)
    while node is not None and is_default(node, "Mul", "Div"):
        step = _step(graph, node)
        if step is None or uses.sole_reader(name) is None:
            break
        factor, name = factor * step.factor, step.name
        node = uses.producer.get(name)
    turn = (0, 1, 3, 2) if transposed else _IDENTITY
    axes = _axes(node, keeps_last=False)
    if node is not None and axes is not None:
        turned = tuple(axes[a] for a in turn)
        if turned[3] == _RANK - 1:
            return _Source(node.inputs[0], turned, factor)
    return _Source(name, turn, factor)


def _axes(node: Node | None, *, keeps_last: bool) -> tuple[int, ...] | None:
    """The order of a Transpose of four axes; None for other nodes."""
    if node is None or not is_default(node, "Transpose"):
        return None
    axes = tuple(int(a) for a in node.attr("perm") or ())
    if len(axes) != _RANK or (keeps_last and axes[3] != 3):
        return None
    return axes


register("attention_fusion", run)
