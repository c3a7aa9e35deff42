"""RotaryEmbedding: pairs of features turned by angles that grow with the position.

Su et al. 2021 "RoFormer".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.expr import Arg, Cast, Expr
from rekindle.graph.ir import Array, Node, Value, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag, integer
from rekindle.graph.ops._copies import Walk, copy, row_major
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import numel, optional, required, same_type

_WIDE = (DType.FLOAT32, DType.FLOAT64)


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    if x.shape is not None and len(x.shape) not in (3, 4):
        raise ModelError(f"node {node}: an input of shape {list(x.shape)}, expected 3 or 4 axes")
    if x.shape is not None and len(x.shape) == 3 and integer(node, "num_heads", 0) < 1:
        raise ModelError(f"node {node}: an input with three axes needs num_heads")
    return same_type(node, inputs)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Input (batch, heads, steps, size), or (batch, steps, heads * size)."""
    given, positions = required(node, inputs, 0), optional(inputs, 3)
    if given.ndim == 4:
        x = wide(given).swapaxes(1, 2)
    else:
        x = wide(given).reshape(*given.shape[:2], integer(node, "num_heads"), -1)
    turned = integer(node, "rotary_embedding_dim", 0) or x.shape[-1]
    cos, sin = (wide(required(node, inputs, i)) for i in (1, 2))
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    cos, sin = np.expand_dims(cos, 2), np.expand_dims(sin, 2)
    if cos.shape[-1] * 2 != turned:
        raise ModelError(f"node {node}: {cos.shape[-1]} angles cannot turn {turned} features")
    y = x.copy()
    first = slice(0, turned, 2) if flag(node, "interleaved") else slice(0, turned // 2)
    second = slice(1, turned, 2) if flag(node, "interleaved") else slice(turned // 2, turned)
    y[..., first] = cos * x[..., first] - sin * x[..., second]
    y[..., second] = sin * x[..., first] + cos * x[..., second]
    if given.ndim == 4:
        y = y.swapaxes(1, 2)
    return (rounded(y.reshape(given.shape), dtype_of(given)),)


def _lower(lowering: Lowering) -> None:
    """The pairs are copied apart, turned, and copied back; what is not turned is copied over."""
    node, x, out = lowering.node, lowering.input(0), lowering.output
    shape = x.static_shape
    if len(shape) == 3:
        heads = integer(node, "num_heads")
        shape = (*shape[:2], heads, shape[2] // heads)
    size, steps = shape[3], row_major(shape)
    turned = integer(node, "rotary_embedding_dim", 0) or size
    half, together = (*shape[:3], turned // 2), flag(node, "interleaved")
    stride, second = (2, 1) if together else (1, turned // 2)
    walks = [Walk((*steps[:3], stride), start) for start in (0, second)]
    parts = []
    for walk in walks:
        part = lowering.temporary(half, x.dtype)
        copy(lowering, x, part, half, walk, Walk(row_major(half)))
        parts.append(part)
    angles = [_angles(lowering, index, len(x.static_shape)) for index in (1, 2)]
    a, b, cos, sin = (_wide(i, v) for i, v in enumerate((*parts, *angles)))
    for walk, expr in zip(walks, (cos * a - sin * b, sin * a + cos * b), strict=True):
        made = lowering.temporary(half, x.dtype)
        stored = expr if x.dtype in _WIDE else Cast(x.dtype, expr)
        lowering.call("elementwise", (*parts, *angles), made, expr=stored)
        copy(lowering, made, out, half, Walk(row_major(half)), walk)
    if turned < size:
        rest = Walk(steps, turned)
        copy(lowering, x, out, (*shape[:3], size - turned), rest, rest)


def _wide(index: int, value: Value) -> Expr:
    return Arg(index) if value.dtype in _WIDE else Cast(DType.FLOAT32, Arg(index))


def _angles(lowering: Lowering, index: int, rank: int) -> Value:
    """(batch, steps, n) with an axis for the heads: before the steps in inputs with four axes."""
    cache = lowering.input(index)
    if lowering.has_input(3):
        positions = lowering.input(3)
        shape = (*positions.static_shape, cache.static_shape[1])
        picked = lowering.temporary(shape, cache.dtype)
        cache = lowering.call("gather", (cache, positions), picked, axis=0)
    batch, steps, count = cache.static_shape
    heads_first = rank == 4
    return lowering.view(
        cache, (batch, 1, steps, count) if heads_first else (batch, steps, 1, count)
    )


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    """Two products and a sum an element."""
    return 3 * numel(outputs[0].shape)


register(
    "RotaryEmbedding",
    Operator(since=23, infer=_infer, reference=_reference, lower=_lower, flops=_flops),
)
