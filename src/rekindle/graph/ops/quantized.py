"""Arithmetic on quantized numbers: DynamicQuantizeLinear, MatMulInteger, ConvInteger,
QLinearMatMul and QLinearConv. Computed on the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.ir import Array, Node, dtype_of, numpy_dtype
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._convolution import convolution_flops, convolution_type, convolve
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._products import product_flops, product_shape
from rekindle.graph.ops._shapes import optional, required

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


register("DynamicQuantizeLinear", Operator(since=11, infer=_dynamic_infer, reference=_dynamic))
register(
    "MatMulInteger",
    Operator(since=10, infer=_product_infer, reference=_product, flops=_product_flops),
)
register(
    "QLinearMatMul",
    Operator(
        since=10, infer=_linear_product_infer, reference=_linear_product, flops=_product_flops
    ),
)
register("ConvInteger", Operator(since=10, infer=_conv_infer, reference=_conv, flops=_conv_flops))
register(
    "QLinearConv",
    Operator(since=10, infer=_linear_conv_infer, reference=_linear_conv, flops=_conv_flops),
)
