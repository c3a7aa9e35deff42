"""QuantizeLinear and DequantizeLinear: per tensor, per axis, or in blocks (opset 21).

y = saturate(round(x / scale) + zero_point), halves to even; x = (y - zero_point) * scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.expr import Arg, Cast, Expr, call, maximum, minimum
from rekindle.graph.ir import Array, Node, Value, dtype_of, numpy_dtype
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import dtype, integer
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import normalize_axis, numel, optional, required

NAMES = ("DequantizeLinear", "QuantizeLinear", "rekindle::DequantizeLinear")


def _quantized(node: Node, zero_point: DType | None) -> DType:
    found = dtype(node, "output_dtype", zero_point or DType.UINT8)
    if found.is_float or found in (DType.STRING, DType.BOOL):
        raise ModelError(f"node {node} quantizes to {found}, expected an integer type")
    return found


def _quantize_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, zero = required(node, inputs, 0), optional(inputs, 2)
    required(node, inputs, 1)
    return (TensorType(_quantized(node, zero.dtype if zero else None), x.shape),)


def _dequantize_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, scale = required(node, inputs, 0), required(node, inputs, 1)
    return (TensorType(dtype(node, "output_dtype", scale.dtype), x.shape),)


def _along(node: Node, parameter: Array, x: Array) -> Array:
    """A scale or zero point against x: one element, one per position of `axis`, or one a block."""
    if parameter.size == 1 and parameter.ndim <= 1:
        return parameter.reshape(())
    axis = normalize_axis(node, integer(node, "axis", 1), x.ndim)
    if parameter.ndim == 1:
        return parameter.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    block = integer(node, "block_size", 0) or -(-x.shape[axis] // parameter.shape[axis])
    return parameter.repeat(block, axis=axis).take(range(x.shape[axis]), axis=axis)


def _quantize(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, scale, zero = required(node, inputs, 0), required(node, inputs, 1), optional(inputs, 2)
    to = _quantized(node, dtype_of(zero) if zero is not None else None)
    limits = np.iinfo(numpy_dtype(to))
    steps = np.rint(_quotient(x, _along(node, scale, x)))
    if zero is not None:
        steps = steps + _along(node, zero, x)
    return (rounded(np.clip(steps, limits.min, limits.max), to),)


def _quotient(x: Array, scale: Array) -> Array:
    """In the precision of the scale, as the standard says: it decides which halves are exact."""
    return wide(np.asarray(x.astype(scale.dtype) / scale))


def _dequantize(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, scale, zero = required(node, inputs, 0), required(node, inputs, 1), optional(inputs, 2)
    values = x.astype(np.float64)
    if zero is not None:
        values = values - _along(node, zero, x).astype(np.float64)
    to = dtype(node, "output_dtype", dtype_of(scale))
    return (rounded(values * wide(_along(node, scale, x)), to),)


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    return 2 * numel(outputs[0].shape)


def _parameters(lowering: Lowering) -> list[Value]:
    """x, then scale and zero point seen against it."""
    node, x = lowering.node, lowering.input(0)
    rank, values = len(x.static_shape), [x]
    for index in (1, 2):
        if not lowering.has_input(index):
            continue
        value = lowering.input(index)
        shape = value.static_shape
        if len(shape) > 1:
            raise NotLowered("quantization in blocks")
        if len(shape) == 1 and shape != (1,):
            axis = normalize_axis(node, integer(node, "axis", 1), rank)
            value = lowering.view(value, (*shape, *(1,) * (rank - 1 - axis)))
        values.append(value)
    return values


def _working(values: Sequence[Value]) -> DType:
    return DType.FLOAT64 if values[1].dtype is DType.FLOAT64 else DType.FLOAT32


def _as(to: DType, index: int, value: Value) -> Expr:
    return Arg(index) if value.dtype is to else Cast(to, Arg(index))


def _quantize_lower(lowering: Lowering) -> None:
    """In the scale's precision; half precision would round otherwise than this and is left out."""
    values, out = _parameters(lowering), lowering.output
    x, scale = values[:2]
    exact = scale.dtype is x.dtype and x.dtype in (DType.FLOAT32, DType.FLOAT64)
    if not exact or out.dtype.itemsize > 2:
        raise NotLowered(f"quantization of {x.dtype} by {scale.dtype} to {out.dtype}")
    steps = call("round", Arg(0) / Arg(1))
    if len(values) > 2:
        steps = steps + Cast(x.dtype, Arg(2))
    limits = np.iinfo(numpy_dtype(out.dtype))
    bounded = minimum(maximum(steps, float(limits.min)), float(limits.max))
    lowering.call("elementwise", values, out, expr=Cast(out.dtype, bounded))


def _dequantize_lower(lowering: Lowering) -> None:
    values, out = _parameters(lowering), lowering.output
    working = _working(values)
    steps: Expr = Cast(DType.INT32, Arg(0))
    if len(values) > 2:
        steps = steps - Cast(DType.INT32, Arg(2))
    y = Cast(working, steps) * _as(working, 1, values[1])
    expr = y if out.dtype is working else Cast(out.dtype, y)
    lowering.call("elementwise", values, out, expr=expr)


register(
    "QuantizeLinear",
    Operator(
        since=10,
        infer=_quantize_infer,
        reference=_quantize,
        lower=_quantize_lower,
        flops=_flops,
    ),
)
_DEQUANTIZE = Operator(
    since=10,
    infer=_dequantize_infer,
    reference=_dequantize,
    lower=_dequantize_lower,
    flops=_flops,
)
register("DequantizeLinear", _DEQUANTIZE)
register("rekindle::DequantizeLinear", replace(_DEQUANTIZE, since=1))
