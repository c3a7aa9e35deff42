"""Arithmetic on quantized numbers: DynamicQuantizeLinear, MatMulInteger, ConvInteger,
QLinearMatMul and QLinearConv. Sums are whole numbers, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.expr import Arg, Cast, call, maximum, minimum, where
from rekindle.graph.ir import Array, Node, Value, dtype_of, numpy_dtype
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._convolution import convolution_flops, convolution_type, convolve
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._products import product_flops, product_shape
from rekindle.graph.ops._quantized import (
    along,
    integer_convolution,
    integer_product,
    requantize,
)
from rekindle.graph.ops._shapes import numel, optional, required

NAMES = (
    "ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul",
)  # fmt: skip

_EIGHT_BITS = (DType.INT8, DType.UINT8)


def _quantized(node: Node, *operands: Operand) -> None:
    for operand in operands:
        if operand.dtype not in _EIGHT_BITS:
            raise ModelError(f"node {node} takes int8 or uint8, got {operand.dtype}")


def _along(zero: Array | None, axis: int, rank: int) -> Array:
    """A zero point or scale against a tensor: one element, or one per position of `axis`."""
    if zero is None:
        return np.zeros(())
    values = zero.astype(np.float64)
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


def _centred(x: Array, zero: Array | None, axis: int) -> Array:
    """Whole numbers from the zero point, exact in float64."""
    if zero is not None and zero.ndim == x.ndim and x.ndim > 1:
        return x.astype(np.float64) - zero.astype(np.float64)
    return x.astype(np.float64) - _along(zero, axis, x.ndim)


def _requantized(sums: Array, factor: Array, zero: Array, to: DType) -> Array:
    limits = np.iinfo(numpy_dtype(to))
    steps = np.rint(sums * factor) + zero.astype(np.float64)
    return rounded(np.clip(steps, limits.min, limits.max), to)


# --- DynamicQuantizeLinear ---------------------------------------------------------------------


def _dynamic_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    if not x.dtype.is_float:
        raise ModelError(f"node {node} takes floats, got {x.dtype}")
    return (TensorType(DType.UINT8, x.shape), TensorType(x.dtype, ()), TensorType(DType.UINT8, ()))


def _dynamic(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """The range of the data, widened to hold 0, on 256 steps; in float32, as its results are."""
    x = required(node, inputs, 0)
    if x.dtype.kind != "f":
        raise ModelError(f"node {node} takes floats, got {x.dtype}")
    low, high = min(x.min(initial=0), x.dtype.type(0)), max(x.max(initial=0), x.dtype.type(0))
    scale = np.asarray((high - low) / x.dtype.type(255) if high > low else 1, x.dtype)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    y = np.clip(np.rint(x / scale) + zero, 0, 255)
    return np.asarray(y, np.uint8), scale, np.asarray(zero, np.uint8)


# --- MatMulInteger, QLinearMatMul --------------------------------------------------------------


def _product_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    a, b = required(node, inputs, 0), required(node, inputs, 1)
    _quantized(node, a, b)
    return (TensorType(DType.INT32, product_shape(node, a.shape, b.shape)),)


def _product(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    a = _centred(required(node, inputs, 0), optional(inputs, 2), -2)
    b = _centred(required(node, inputs, 1), optional(inputs, 3), -1)
    return (rounded(a @ b, DType.INT32),)


def _linear_product_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    a, b, zero = (required(node, inputs, i) for i in (0, 3, 7))
    _quantized(node, a, b, zero)
    return (TensorType(zero.dtype, product_shape(node, a.shape, b.shape)),)


def _linear_product(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = (
        required(node, inputs, i) for i in range(8)
    )
    sums = _centred(a, a_zero, -2) @ _centred(b, b_zero, -1)
    rank = max(sums.ndim, 1)
    factor = _scale(a_scale, -2, rank) * _scale(b_scale, -1, rank) / _scale(scale, -2, rank)
    return (_requantized(sums, wide(factor), _along(zero, -2, rank), dtype_of(zero)),)


def _scale(scale: Array, axis: int, rank: int) -> Array:
    """Against the output, in its own precision: products of scales are rounded there."""
    if scale.size == 1:
        return scale.reshape(())
    if scale.ndim > 1:
        return scale
    return scale.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


def _product_flops(
    node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]
) -> int:
    return product_flops(required(node, inputs, 0).shape, outputs[0].shape)


# --- ConvInteger, QLinearConv ------------------------------------------------------------------


def _conv_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, w = required(node, inputs, 0), required(node, inputs, 1)
    _quantized(node, x, w)
    shape = convolution_type(node, (Operand(w.dtype, x.shape), w)).shape
    return (TensorType(DType.INT32, shape),)


def _conv(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = _centred(required(node, inputs, 0), optional(inputs, 2), 1)
    w = _centred(required(node, inputs, 1), optional(inputs, 3), 0)
    return (rounded(convolve(node, (x, w)), DType.INT32),)


def _linear_conv_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, w, zero = (required(node, inputs, i) for i in (0, 3, 7))
    _quantized(node, x, w, zero)
    shape = convolution_type(node, (Operand(w.dtype, x.shape), w)).shape
    return (TensorType(zero.dtype, shape),)


def _linear_conv(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, x_scale, x_zero, w, w_scale, w_zero, scale, zero = (
        required(node, inputs, i) for i in range(8)
    )
    sums = convolve(node, (_centred(x, x_zero, 1), _centred(w, w_zero, 0), optional(inputs, 8)))
    factor = x_scale.reshape(()) * _scale(w_scale, 1, sums.ndim) / scale.reshape(())
    return (_requantized(sums, wide(factor), zero.reshape(()), dtype_of(zero)),)


def _conv_flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    index = 1 if node.op_type == "ConvInteger" else 3
    return convolution_flops(required(node, inputs, index), outputs[0])


# --- on the device -----------------------------------------------------------------------------


def _dynamic_lower(lowering: Lowering) -> None:
    x = lowering.input(0)
    y, scale_out, zero_out = (*lowering.outputs(), None, None)[:3]
    if x.dtype is not DType.FLOAT32:
        raise NotLowered(f"quantization of {x.dtype} by its range")
    axes, one = tuple(range(len(x.static_shape))), (1,) * len(x.static_shape)
    ends = []
    for kind in ("min", "max"):
        end = lowering.temporary(one)
        if axes:
            lowering.call("reduce", (x,), end, kind=kind, axes=axes)
        ends.append(lowering.view(end if axes else x, ()))
    low, high = minimum(Arg(0), 0.0), maximum(Arg(1), 0.0)
    step = where(low < high, (high - low) / 255.0, 1.0)
    scale = scale_out if scale_out is not None else lowering.temporary(())
    lowering.call("elementwise", ends, scale, expr=step)
    nearest = call("round", (0.0 - minimum(Arg(0), 0.0)) / Arg(1))
    place = minimum(maximum(nearest, 0.0), 255.0)
    zero = lowering.call("elementwise", (ends[0], scale), lowering.temporary(()), expr=place)
    if zero_out is not None:
        lowering.call("elementwise", (zero,), zero_out, expr=Cast(DType.UINT8, Arg(0)))
    if y is not None:
        steps = call("round", Arg(0) / Arg(1)) + Arg(2)
        bounded = Cast(DType.UINT8, minimum(maximum(steps, 0.0), 255.0))
        lowering.call("elementwise", (x, scale, zero), y, expr=bounded)


def _zeros(lowering: Lowering, first: int, second: int) -> tuple[Value | None, Value | None]:
    found = [lowering.input(i) if lowering.has_input(i) else None for i in (first, second)]
    return found[0], found[1]


def _product_lower(lowering: Lowering) -> None:
    factors = lowering.input(0), lowering.input(1)
    integer_product(lowering, factors, _zeros(lowering, 2, 3), lowering.output)


def _linear_product_lower(lowering: Lowering) -> None:
    out, factors = lowering.output, (lowering.input(0), lowering.input(3))
    sums = lowering.temporary(out.static_shape, DType.INT32)
    integer_product(lowering, factors, _zeros(lowering, 2, 5), sums)
    rank = max(len(out.static_shape), 1)
    axes = ((1, -2), (4, -1), (6, -2))
    scales = [along(lowering, lowering.input(i), axis, rank) for i, axis in axes]
    requantize(lowering, sums, scales, (along(lowering, lowering.input(7), -2, rank), None))


def _conv_lower(lowering: Lowering) -> None:
    factors = lowering.input(0), lowering.input(1)
    integer_convolution(lowering, factors, _zeros(lowering, 2, 3), lowering.output)


def _linear_conv_lower(lowering: Lowering) -> None:
    out, factors = lowering.output, (lowering.input(0), lowering.input(3))
    sums = lowering.temporary(out.static_shape, DType.INT32)
    integer_convolution(lowering, factors, _zeros(lowering, 2, 5), sums)
    rank = len(out.static_shape)
    scales = [along(lowering, lowering.input(i), 1, rank) for i in (1, 4, 6)]
    bias = along(lowering, lowering.input(8), 1, rank) if lowering.has_input(8) else None
    requantize(lowering, sums, scales, (along(lowering, lowering.input(7), 1, rank), bias))


def _dynamic_flops(
    node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]
) -> int:
    """Smallest, largest, quotient, rounding, offset and both limits: seven an element."""
    return 7 * numel(outputs[0].shape)


register(
    "DynamicQuantizeLinear",
    Operator(
        since=11,
        infer=_dynamic_infer,
        reference=_dynamic,
        lower=_dynamic_lower,
        flops=_dynamic_flops,
    ),
)
register(
    "MatMulInteger",
    Operator(
        since=10,
        infer=_product_infer,
        reference=_product,
        lower=_product_lower,
        flops=_product_flops,
    ),
)
register(
    "QLinearMatMul",
    Operator(
        since=10,
        infer=_linear_product_infer,
        reference=_linear_product,
        lower=_linear_product_lower,
        flops=_product_flops,
    ),
)
register(
    "ConvInteger",
    Operator(since=10, infer=_conv_infer, reference=_conv, lower=_conv_lower, flops=_conv_flops),
)
register(
    "QLinearConv",
    Operator(
        since=10,
        infer=_linear_conv_infer,
        reference=_linear_conv,
        lower=_linear_conv_lower,
        flops=_conv_flops,
    ),
)
