"""Arithmetic on quantized numbers on the device: whole sums, then steps of the result's scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.graph.expr import Arg, Cast, Expr, call, maximum, minimum
from rekindle.graph.ir import Value, numpy_dtype
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops._attributes import integer
from rekindle.graph.ops._convolution import frame_of


def integer_product(
    lowering: Lowering,
    factors: tuple[Value, Value],
    zeros: tuple[Value | None, Value | None],
    out: Value,
) -> Value:
    """The logical `matmul_integer` into `out` (int32); vectors become matrices by views."""
    a, b = factors
    left, right, shape = a.static_shape, b.static_shape, out.static_shape
    if len(right) == 1:
        b, shape = lowering.view(b, (right[0], 1)), (*shape, 1)
    if len(left) == 1:
        a, shape = lowering.view(a, (1, left[0])), (*shape[:-1], 1, shape[-1])
    for zero, size in zip(zeros, (shape[-2], shape[-1]), strict=True):
        if zero is not None and zero.static_shape not in ((), (1,), (size,)):
            raise NotLowered(f"zero points of shape {list(zero.static_shape)}")
    if shape == out.static_shape:
        return lowering.call("matmul_integer", (a, b, *zeros), out)
    made = lowering.temporary(shape, DType.INT32)
    lowering.call("matmul_integer", (a, b, *zeros), made)
    return lowering.call("view", (made,), out)


def integer_convolution(
    lowering: Lowering,
    factors: tuple[Value, Value],
    zeros: tuple[Value | None, Value | None],
    out: Value,
) -> Value:
    """The logical `conv_integer` into `out` (int32)."""
    x, w = factors
    frame = frame_of(lowering.node, w.static_shape[2:])
    for zero, sizes in zip(zeros, ((), (w.static_shape[0],)), strict=True):
        if zero is not None and zero.static_shape not in ((), (1,), sizes):
            raise NotLowered(f"zero points of shape {list(zero.static_shape)}")
    return lowering.call(
        "conv_integer",
        (x, w, *zeros),
        out,
        strides=frame.strides,
        pads=frame.padding(x.static_shape[2:]),
        dilations=frame.dilations,
        group=integer(lowering.node, "group", 1),
    )


def requantize(
    lowering: Lowering, sums: Value, scales: Sequence[Value], ends: tuple[Value, Value | None]
) -> None:
    """round(sums * scales[0] * scales[1] / scales[2]) + zero, within the output's type.

    `ends`: the zero point, and a bias of whole numbers that is added to the sums.
    """
    zero, bias = ends
    if any(s.dtype is not DType.FLOAT32 for s in scales):
        raise NotLowered("scales of half precision")
    whole: Expr = Arg(0)
    values = [sums, *scales, zero]
    if bias is not None:
        values.append(bias)
        whole = whole + Arg(5)
    steps = call("round", Cast(DType.FLOAT32, whole) * (Arg(1) * Arg(2) / Arg(3)))
    steps = steps + Cast(DType.FLOAT32, Arg(4))
    out = lowering.output
    limits = np.iinfo(numpy_dtype(out.dtype))
    bounded = minimum(maximum(steps, float(limits.min)), float(limits.max))
    lowering.call("elementwise", values, out, expr=Cast(out.dtype, bounded))


def along(lowering: Lowering, value: Value, axis: int, rank: int) -> Value:
    """A scale, zero point or bias against the result: one element, or one a place of `axis`."""
    if math.prod(value.static_shape) == 1:
        return lowering.view(value, ())
    if len(value.static_shape) > 1:
        return value
    shape = [1] * rank
    shape[axis] = value.static_shape[0]
    return lowering.view(value, shape)
