"""BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot, BitShift and BitCast: on the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.ir import Array, Node, numpy_dtype
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import dtype, text
from rekindle.graph.ops._shapes import broadcast, required, same_dtype, same_type

NAMES = ("BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor")

_NOT_WHOLE = (DType.BOOL, DType.STRING)


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    a, b = required(node, inputs, 0), required(node, inputs, 1)
    kind = same_dtype(node, (a, b))
    _whole(node, kind)
    return (TensorType(kind, broadcast(node, a.shape, b.shape)),)


def _whole(node: Node, kind: DType) -> None:
    if kind.is_float or kind in _NOT_WHOLE:
        raise ModelError(f"node {node} takes whole numbers, got {kind}")


def _operator(compute: Callable[[Array, Array], Array]) -> Operator:
    def reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        return (np.asarray(compute(required(node, inputs, 0), required(node, inputs, 1))),)

    return Operator(since=18, infer=_infer, reference=reference)


def _not_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    _whole(node, required(node, inputs, 0).dtype)
    return same_type(node, inputs)


def _not(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    return (np.asarray(~required(node, inputs, 0)),)


def _shift(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Past the width everything is shifted out: 0, or the sign of a signed number going right."""
    x, count = required(node, inputs, 0), required(node, inputs, 1)
    left = text(node, "direction", "", choices=("LEFT", "RIGHT")) == "LEFT"
    width = 8 * x.dtype.itemsize
    inside = np.minimum(count, width - 1).astype(x.dtype)
    shifted = x << inside if left else x >> inside
    gone = np.zeros_like(x) if left or x.dtype.kind == "u" else x >> np.asarray(width - 1, x.dtype)
    return (np.where(count >= width, gone, shifted).astype(x.dtype),)


def _cast_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, to = required(node, inputs, 0), dtype(node, "to")
    if DType.STRING in (x.dtype, to) or x.dtype.itemsize != to.itemsize:
        raise ModelError(f"node {node}: the bits of {x.dtype} are not those of {to}")
    return (TensorType(to, x.shape),)


def _cast(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    to = numpy_dtype(dtype(node, "to"))
    x = np.array(required(node, inputs, 0), order="C")
    if to == np.dtype(bool):
        return (x.view(np.uint8) != 0,)
    return (x.reshape(-1).view(to).reshape(x.shape),)


register("BitwiseAnd", _operator(np.bitwise_and))
register("BitwiseOr", _operator(np.bitwise_or))
register("BitwiseXor", _operator(np.bitwise_xor))
register("BitwiseNot", Operator(since=18, infer=_not_infer, reference=_not))
register("BitShift", Operator(since=11, infer=_infer, reference=_shift))
register("BitCast", Operator(since=26, infer=_cast_infer, reference=_cast))
