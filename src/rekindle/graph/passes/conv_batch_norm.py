"""Per-channel arithmetic behind a convolution or Gemm disappears into its weights.

BatchNormalization at inference is y = scale * (x - mean) / sqrt(var + epsilon) + bias for each
channel (Ioffe and Szegedy 2015, algorithm 2): a factor and an offset, as are Mul, Add, Sub and
Div by a constant per channel. Both move into weights and bias, computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rekindle._types import Target
from rekindle.graph.ir import Array, Graph, Node
from rekindle.graph.order import Uses
from rekindle.graph.passes import register
from rekindle.graph.passes._rewrite import constant_input, has_input, is_default, prune


@dataclass(frozen=True)
class _Affine:
    """y = factor * x + offset, float64 arrays with one element per channel."""

    factor: Array
    offset: Array


def run(graph: Graph, target: Target | None) -> Graph:
    uses = Uses.of(graph)
    result = graph.copy()
    result.nodes = []
    foldable: dict[str, int] = {}
    for node in graph.nodes:
        source = next((n for n in node.inputs if n in foldable), None)
        merged = None
        if source is not None and uses.sole_reader(source) is node:
            with np.errstate(all="ignore"):
                merged = _merge(result, result.nodes[foldable[source]], node, source)
        if merged is not None and source is not None:
            result.nodes[foldable[source]] = merged
            foldable[merged.outputs[0]] = foldable[source]
            continue
        if is_default(node, "Conv", "Gemm"):
            foldable[node.outputs[0]] = len(result.nodes)
        result.nodes.append(node)
    return prune(result)


def _merge(graph: Graph, product: Node, node: Node, source: str) -> Node | None:
    """`product` doing what `node` does to its result `source`; None where it cannot."""
    weights = constant_input(graph, product, 1)
    if weights is None or weights.dtype.kind not in "fV":
        return None
    conv = product.op_type == "Conv"
    axis = 0 if conv or product.attr("transB", 0) else 1
    channels = weights.shape[axis]
    affine = _affine(graph, node, source, weights.ndim if conv else 2, channels)
    bias = _bias(graph, product, channels)
    if affine is None or bias is None:
        return None
    along = [1] * weights.ndim
    along[axis] = channels
    # Computed in double and rounded at once, without a copy of the weights in double.
    scaled = np.empty_like(weights)
    factor = affine.factor.reshape(along)
    np.multiply(weights, factor, out=scaled, dtype=np.float64, casting="same_kind")
    arrays = [scaled, (bias * affine.factor + affine.offset).astype(weights.dtype)]
    if not all(np.isfinite(a).all() for a in arrays):
        return None  # float16 overflowed, or the arithmetic makes NaN on purpose
    attrs: dict[str, Any] = dict(product.attrs)
    if not conv:
        attrs["beta"] = 1.0
    names = [
        graph.add_initializer(f"{product.inputs[1]}.folded", arrays[0]),
        graph.add_initializer(f"{node.outputs[0]}.bias", arrays[1]),
    ]
    return replace(
        product, inputs=(product.inputs[0], *names), outputs=(node.outputs[0],), attrs=attrs
    )


def _bias(graph: Graph, product: Node, channels: int) -> Array | None:
    """What the product adds per channel, in float64; None where that is not known."""
    if not has_input(product, 2):
        return np.zeros(channels)
    constant = constant_input(graph, product, 2)
    if constant is None:
        return None
    bias = _per_channel(constant, 2, 1, channels)
    if bias is None or product.op_type == "Conv":
        return bias
    return bias * float(product.attr("beta", 1.0))


def _affine(graph: Graph, node: Node, source: str, rank: int, channels: int) -> _Affine | None:
    """A node as a factor and an offset per channel of its input `source`."""
    if is_default(node, "BatchNormalization"):
        return _batch_norm(graph, node, source, channels)
    make = _ARITHMETIC.get(node.op_type)
    if node.domain or make is None or len(node.inputs) != 2:
        return None
    first = node.inputs[0] == source
    constant = constant_input(graph, node, 1 if first else 0)
    other = None if constant is None else _per_channel(constant, rank, 1, channels)
    return None if other is None else make(other, first)


def _batch_norm(graph: Graph, node: Node, source: str, channels: int) -> _Affine | None:
    if node.attr("training_mode", 0) or not node.attr("spatial", 1) or any(node.outputs[1:]):
        return None
    constants = [constant_input(graph, node, i) for i in range(1, 5)]
    if node.inputs[0] != source or any(c is None or c.shape != (channels,) for c in constants):
        return None
    scale, bias, mean, variance = (c.astype(np.float64) for c in constants if c is not None)
    factor = scale / np.sqrt(variance + float(node.attr("epsilon", 1e-5)))
    return _Affine(factor, bias - mean * factor)


def _per_channel(constant: Array, rank: int, axis: int, channels: int) -> Array | None:
    """A constant that broadcasts along `axis` of a tensor of `rank` alone, as `channels` floats."""
    shape = (1,) * (rank - constant.ndim) + constant.shape
    others = shape[:axis] + shape[axis + 1 :]
    if len(shape) != rank or any(d != 1 for d in others) or shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(constant.astype(np.float64).reshape(-1), (channels,))


def _add(other: Array, first: bool) -> _Affine:
    return _Affine(np.ones_like(other), other)


def _sub(other: Array, first: bool) -> _Affine:
    sign = 1.0 if first else -1.0
    return _Affine(np.full_like(other, sign), -sign * other)


def _mul(other: Array, first: bool) -> _Affine:
    return _Affine(other, np.zeros_like(other))


def _div(other: Array, first: bool) -> _Affine | None:
    if not first or not other.all():
        return None
    return _Affine(1.0 / other, np.zeros_like(other))


_ARITHMETIC: dict[str, Callable[[Array, bool], _Affine | None]] = {
    "Add": _add,
    "Div": _div,
    "Mul": _mul,
    "Sub": _sub,
}


register("conv_batch_norm", run)
