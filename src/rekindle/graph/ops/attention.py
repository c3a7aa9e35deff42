"""Attention: scaled dot product attention with heads, masks, windows and a key/value cache.

Vaswani et al. 2017 "Attention Is All You Need"; query groups after Ainslie et al. 2023 "GQA".
Inputs have four axes (batch, heads, sequence, size), or three with the heads side by side in the
last. A query that may attend to nothing gives zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Dim, Shape
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attention import BIASED, PROBABILITIES, SCORES, SOFTCAPPED, heads, lower
from rekindle.graph.ops._attributes import integer, number
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._masks import bias, extent
from rekindle.graph.ops._shapes import (
    known_rank,
    numel,
    optional,
    required,
    unknown_shape,
)

NAMES = ("Attention",)


def _split(node: Node, shape: Shape | None, key: str) -> Shape | None:
    """A shape with four axes, the heads apart."""
    if shape is None or len(shape) == 4:
        return shape
    if len(shape) != 3:
        raise ModelError(f"node {node}: an input of shape {list(shape)}, expected 3 or 4 axes")
    count, hidden = heads(node, key), shape[2]
    size: Dim = f"({hidden}/{count})"
    if isinstance(hidden, int):
        if hidden % count:
            raise ModelError(f"node {node}: {hidden} does not split into {count} heads")
        size = hidden // count
    return (shape[0], count, shape[1], size)


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    given = [required(node, inputs, i) for i in range(3)]
    q, k, v = (
        _split(node, x.shape, "kv_num_heads" if i else "q_num_heads") for i, x in enumerate(given)
    )
    dtype, packed = given[0].dtype, known_rank(node, given[0]) == 3
    if q is None or k is None or v is None:
        return tuple(TensorType(x.dtype, None) for x in (given[0], *given))
    past = optional(inputs, 4)
    keys = k[2] if past is None else _sum(past, k[2], unknown_shape(node, 4, 1)[2])
    if isinstance(q[1], int) and isinstance(k[1], int) and (k[1] < 1 or q[1] % k[1]):
        raise ModelError(f"node {node}: {q[1]} query heads do not share {k[1]} key heads")
    y: Shape = (q[0], q[1], q[2], v[3])
    if packed:
        wide_: Dim = f"({q[1]}*{v[3]})"
        if isinstance(q[1], int) and isinstance(v[3], int):
            wide_ = q[1] * v[3]
        y = (q[0], q[2], wide_)
    return (
        TensorType(dtype, y),
        TensorType(given[1].dtype, (k[0], k[1], keys, k[3])),
        TensorType(given[2].dtype, (v[0], v[1], keys, v[3])),
        TensorType(dtype, (q[0], q[1], q[2], keys)),
    )


def _sum(past: Operand, new: Dim, unknown: Dim) -> Dim:
    if past.shape is None or not isinstance(past.shape[2], int) or not isinstance(new, int):
        return unknown
    return past.shape[2] + new


def _apart(node: Node, x: Array, key: str) -> Array:
    if x.ndim == 4:
        return x
    return x.reshape(*x.shape[:2], heads(node, key), -1).transpose(0, 2, 1, 3)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    given = required(node, inputs, 0)
    q = wide(_apart(node, given, "q_num_heads"))
    present = []
    for index, past in ((1, optional(inputs, 4)), (2, optional(inputs, 5))):
        new = _apart(node, required(node, inputs, index), "kv_num_heads")
        present.append(new if past is None else np.concatenate((past, new), axis=2))
    k, v = (np.repeat(wide(x), q.shape[1] // x.shape[1], axis=1) for x in present)
    scale = number(node, "scale", 0.0) or 1 / math.sqrt(q.shape[3])
    scores = (q * scale) @ k.swapaxes(-1, -2)
    mode, shown = integer(node, "qk_matmul_output_mode", SCORES), scores
    cap = number(node, "softcap", 0.0)
    if cap > 0:
        scores = np.tanh(scores / cap) * cap
    if mode == SOFTCAPPED:
        shown = scores
    added = bias(node, inputs, extent(inputs, q.shape[2], k.shape[2]))
    biased = scores + added
    if mode == BIASED:
        shown = biased
    probabilities = _softmax(biased, np.isneginf(added.max(axis=-1, keepdims=True)))
    if mode == PROBABILITIES:
        shown = probabilities
    y = probabilities @ v
    if given.ndim == 3:
        y = y.transpose(0, 2, 1, 3).reshape(*given.shape[:2], -1)
    to = dtype_of(given)
    return rounded(y, to), present[0], present[1], rounded(shown, to)


def _softmax(x: Array, masked: Array) -> Array:
    """Along the last axis; rows that are `masked` wholly are zero."""
    highest = x.max(axis=-1, keepdims=True)
    powers = np.exp(x - np.where(np.isneginf(highest), 0.0, highest))
    total = powers.sum(axis=-1, keepdims=True)
    return np.where(masked | (total == 0), 0.0, powers / np.where(total == 0, 1.0, total))


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    """Two products of every query with every key, over the head sizes."""
    q, v = (
        _split(node, required(node, inputs, i).shape, key) or (0,)
        for i, key in ((0, "q_num_heads"), (2, "kv_num_heads"))
    )
    sizes = [d for d in (q[-1], v[-1]) if isinstance(d, int)]
    return 2 * numel(outputs[3].shape) * sum(sizes)


register(
    "Attention",
    Operator(since=23, infer=_infer, reference=_reference, lower=lower, flops=_flops),
)
