"""rekindle::Attention: softmax(scale Q K' + mask) V without the matrix of scores, by a pass.

Inputs: Q, K, V and, optionally, an additive mask. Attributes: `scale`; `q_axes`, `k_axes` and
`v_axes`, the order of axes in which an input is (batch, heads, rows, size); `y_axes`, the order in
which the result, (batch, heads, queries, size), is stored. The mask broadcasts to (batch, heads,
queries, keys), but has all keys. Row by row as in Rabe and Staats 2021, "Self-attention does not
need O(n^2) memory": the softmax is summed up while keys go by.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Shape
from rekindle.graph.ir import Array, Node, Value, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import number
from rekindle.graph.ops._copies import row_major
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import numel, optional, required

NAMES = ("rekindle::Attention",)


def _ordered(shape: Shape, axes: Sequence[int]) -> Shape:
    return tuple(shape[a] for a in axes)


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    given = [required(node, inputs, i) for i in range(3)]
    shapes = [
        None if x.shape is None else _ordered(x.shape, node.attrs[key])
        for x, key in zip(given, ("q_axes", "k_axes", "v_axes"), strict=True)
    ]
    q, k, v = shapes
    if q is None or k is None or v is None:
        return (TensorType(given[0].dtype, None),)
    if not (q[:2] == k[:2] == v[:2] and q[3] == k[3] and k[2] == v[2]):
        raise ModelError(f"node {node}: queries {q}, keys {k} and values {v} do not go together")
    whole = (*q[:3], v[3])
    return (TensorType(given[0].dtype, _ordered(whole, node.attrs["y_axes"])),)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    given = [required(node, inputs, i) for i in range(3)]
    q, k, v = (
        wide(x).transpose(node.attrs[key])
        for x, key in zip(given, ("q_axes", "k_axes", "v_axes"), strict=True)
    )
    scores = q @ k.swapaxes(2, 3) * number(node, "scale", 1.0)
    mask = optional(inputs, 3)
    if mask is not None:
        scores = scores + wide(mask)
    powers = np.exp(scores - scores.max(axis=3, keepdims=True))
    y = (powers / powers.sum(axis=3, keepdims=True)) @ v
    return (rounded(y.transpose(node.attrs["y_axes"]), dtype_of(given[0])),)


def _lower(lowering: Lowering) -> None:
    node, out = lowering.node, lowering.output
    q, k, v = (lowering.input(i) for i in range(3))
    batch, heads, queries, size = _ordered(q.static_shape, node.attrs["q_axes"])
    keys, value_size = _ordered(v.static_shape, node.attrs["v_axes"])[2:]
    y_axes = node.attrs["y_axes"]
    mask = lowering.input(3) if lowering.has_input(3) else None
    lowering.call(
        "attention",
        (q, k, v, mask),
        out,
        sizes=(batch, heads, queries, keys, size, value_size),
        scale=number(node, "scale", 1.0),
        q_strides=_strides(q, node.attrs["q_axes"]),
        k_strides=_strides(k, node.attrs["k_axes"]),
        v_strides=_strides(v, node.attrs["v_axes"]),
        y_strides=_strides(out, [y_axes.index(a) for a in range(4)]),
        mask_strides=_mask_strides(mask),
    )


def _strides(value: Value, axes: Sequence[int]) -> tuple[int, ...]:
    steps = row_major(value.static_shape)
    return tuple(steps[a] for a in axes)


def _mask_strides(mask: Value | None) -> tuple[int, ...]:
    """Steps along batch, heads, queries and keys; 0 where the mask is broadcast."""
    if mask is None:
        return (0, 0, 0, 0)
    shape = (1,) * (4 - len(mask.static_shape)) + mask.static_shape
    steps = row_major(shape)
    return (*(0 if d == 1 else s for d, s in zip(shape[:3], steps, strict=False)), 1)


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    """Two products of every query with every key."""
    k = required(node, inputs, 1)
    if k.shape is None:
        return 0
    keys, size = _ordered(k.shape, node.attrs["k_axes"])[2:]
    q = numel(required(node, inputs, 0).shape)
    if not isinstance(keys, int) or not isinstance(size, int) or not size:
        return 0
    return 2 * keys * (q + numel(outputs[0].shape))


register(
    "rekindle::Attention",
    Operator(since=1, infer=_infer, reference=_reference, lower=_lower, flops=_flops),
)
