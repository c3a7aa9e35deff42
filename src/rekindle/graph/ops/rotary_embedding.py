"""RotaryEmbedding: pairs of features turned by angles that grow with the position.

Su et al. 2021 "RoFormer". Computed on the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag, integer
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import optional, required, same_type


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


register("RotaryEmbedding", Operator(since=23, infer=_infer, reference=_reference))
