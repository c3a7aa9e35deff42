"""Resize on the device, axis by axis: picked by index, or a product with a weight matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.graph.expr import Arg, Cast, Expr, where
from rekindle.graph.ir import Array, Value
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops._resampling import Axis, Filter, nearest_index, positions, weights


def outside(axes: Sequence[Axis]) -> Array:
    """Where tf_crop_and_resize reads past the input, in a shape that broadcasts to the output."""
    found = np.zeros((1,) * len(axes), bool)
    for i, axis in enumerate(axes):
        if not is_whole(axis):
            at = positions(axis, "tf_crop_and_resize")
            beyond = (at < 0) | (at > axis.size - 1)
            found = found | beyond.reshape([-1 if j == i else 1 for j in range(len(axes))])
    return found


def is_whole(axis: Axis) -> bool:
    """Whether an axis stays as it is."""
    return axis == Axis(axis.size, axis.size, 1.0)


def lower_separable(
    lowering: Lowering, axes: Sequence[Axis], how: Filter, extrapolation: float
) -> None:
    """Any mode along any axes; a matrix holds mostly zeros, which small images can afford."""
    x, out = lowering.input(0), lowering.output
    y, working = x, x.dtype
    if how.mode != "nearest":
        if not x.dtype.is_float:
            raise NotLowered(f"{lowering.node.op_type} of {x.dtype} with mode {how.mode}")
        working = DType.FLOAT32
        if x.dtype is not working:
            wide = lowering.temporary(x.static_shape, working)
            y = lowering.call("elementwise", (x,), wide, expr=Cast(working, Arg(0)))
    for index, axis in enumerate(axes):
        if not is_whole(axis):
            along = _picked if how.mode == "nearest" else _weighed
            y = along(lowering, y, index, axis, how)
    operands, expr = [y], _stored(Arg(0), working, out.dtype)
    if how.coordinates == "tf_crop_and_resize":
        operands.append(lowering.literal(outside(axes)))
        expr = _stored(where(Arg(1), extrapolation, Arg(0)), working, out.dtype)
    lowering.call("elementwise", operands, out, expr=expr)


def _stored(expr: Expr, working: DType, to: DType) -> Expr:
    return expr if working is to else Cast(to, expr)


def _picked(lowering: Lowering, x: Value, index: int, axis: Axis, how: Filter) -> Value:
    shape = list(x.static_shape)
    shape[index] = axis.resized
    indices = lowering.literal(nearest_index(axis, how))
    return lowering.call("gather", (x, indices), lowering.temporary(shape, x.dtype), axis=index)


def _weighed(lowering: Lowering, x: Value, index: int, axis: Axis, how: Filter) -> Value:
    shape = x.static_shape
    outer, inner = math.prod(shape[:index]), math.prod(shape[index + 1 :])
    matrix = lowering.literal(weights(axis, how).astype(np.float32))
    if inner == 1:
        a, b = lowering.view(x, (outer, axis.size)), matrix
        made = lowering.temporary((outer, axis.resized), x.dtype)
    else:
        a, b = matrix, lowering.view(x, (outer, axis.size, inner))
        made = lowering.temporary((outer, axis.resized, inner), x.dtype)
    lowering.call("matmul", (a, b), made, transpose_a=False, transpose_b=inner == 1, epilogue=None)
    return lowering.view(made, (*shape[:index], axis.resized, *shape[index + 1 :]))
