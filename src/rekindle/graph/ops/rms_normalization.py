"""RMSNormalization, LpNormalization and MeanVarianceNormalization.

Zhang and Sennrich 2019 "Root Mean Square Layer Normalization": x / sqrt(mean(x²) + epsilon),
times a scale. The other two divide by a norm along one axis, or standardize over chosen axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.expr import Arg, Cast, Expr, call, where
from rekindle.graph.ir import Array, Node, Value, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer, integers, number
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._rows import lower_rows
from rekindle.graph.ops._shapes import (
    broadcast,
    normalize_axes,
    normalize_axis,
    numel,
    required,
    same_type,
)

NAMES = ("LpNormalization", "MeanVarianceNormalization", "RMSNormalization")

_MEAN_VARIANCE_EPSILON = 1e-9
"""Of the operator's definition: it is added to the deviation, not to the variance."""


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    """Square, sum, root, quotient, scale: about five an element."""
    return 5 * numel(outputs[0].shape)


def _working(x: Value) -> DType:
    return DType.FLOAT64 if x.dtype is DType.FLOAT64 else DType.FLOAT32


def _widened(lowering: Lowering, value: Value, working: DType) -> Value:
    if value.dtype is working:
        return value
    wider = lowering.temporary(value.static_shape, working)
    return lowering.call("elementwise", (value,), wider, expr=Cast(working, Arg(0)))


def _reduced(lowering: Lowering, x: Value, kind: str, axes: tuple[int, ...]) -> Value:
    """`x` reduced over `axes`, which stay as 1."""
    kept = tuple(1 if i in axes else d for i, d in enumerate(x.static_shape))
    return lowering.call("reduce", (x,), lowering.temporary(kept, x.dtype), kind=kind, axes=axes)


def _stored(expr: Expr, out: Value, working: DType) -> Expr:
    return expr if out.dtype is working else Cast(out.dtype, expr)


# --- RMSNormalization --------------------------------------------------------------------------


def _rms_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, scale = required(node, inputs, 0), required(node, inputs, 1)
    if x.shape is not None:
        normalize_axis(node, integer(node, "axis", -1), len(x.shape))
        broadcast(node, x.shape, scale.shape)
    return (TensorType(scale.dtype, x.shape),)


def _rms(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    given, scale = required(node, inputs, 0), required(node, inputs, 1)
    x, first = wide(given), normalize_axis(node, integer(node, "axis", -1), given.ndim)
    squares = (x * x).mean(axis=tuple(range(first, x.ndim)), keepdims=True)
    y = x / np.sqrt(squares + number(node, "epsilon", 1e-5)) * wide(scale)
    return (rounded(y, dtype_of(scale)),)


def _rms_lower(lowering: Lowering) -> None:
    node, given, scale = lowering.node, lowering.input(0), lowering.input(1)
    working, out, shape = _working(given), lowering.output, given.static_shape
    axes = tuple(range(normalize_axis(node, integer(node, "axis", -1), len(shape)), len(shape)))
    trailing = shape[axes[0] :]
    if scale.static_shape == trailing:
        whole = math.prod(trailing)
        if lower_rows(lowering, given, whole, [scale], (1, 0, 1), rms=True):
            return
    x = _widened(lowering, given, working)
    squares = _reduced(lowering, x, "sum_square", axes)
    mean = Arg(1) * (1 / math.prod(trailing)) + number(node, "epsilon", 1e-5)
    factor: Expr = Arg(2) if scale.dtype is working else Cast(working, Arg(2))
    y = Arg(0) / call("sqrt", mean) * factor
    lowering.call("elementwise", (x, squares, scale), out, expr=_stored(y, out, working))


# --- LpNormalization ---------------------------------------------------------------------------


def _order(node: Node) -> int:
    order = integer(node, "p", 2)
    if order not in (1, 2):
        raise ModelError(f"node {node}: p is {order}, expected 1 or 2")
    return order


def _lp_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    _order(node)
    if x.shape is not None:
        normalize_axis(node, integer(node, "axis", -1), len(x.shape))
    return same_type(node, inputs)


def _lp(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """A vector without length stays what it is: all zeros."""
    given = required(node, inputs, 0)
    x, axis = wide(given), normalize_axis(node, integer(node, "axis", -1), given.ndim)
    norm = np.linalg.norm(x, ord=_order(node), axis=axis, keepdims=True)
    return (rounded(np.where(norm == 0, 0.0, x / norm), dtype_of(given)),)


def _lp_lower(lowering: Lowering) -> None:
    node, given, out = lowering.node, lowering.input(0), lowering.output
    working = _working(given)
    x = _widened(lowering, given, working)
    axis = normalize_axis(node, integer(node, "axis", -1), len(given.static_shape))
    if _order(node) == 2:
        norm = _reduced(lowering, x, "sum_square", (axis,))
        length = call("sqrt", Arg(1))
    else:
        sizes = lowering.temporary(x.static_shape, working)
        lowering.call("elementwise", (x,), sizes, expr=call("abs", Arg(0)))
        norm, length = _reduced(lowering, sizes, "sum", (axis,)), Arg(1)
    y = where(call("eq", Arg(1), 0.0), 0.0, Arg(0) / length)
    lowering.call("elementwise", (x, norm), out, expr=_stored(y, out, working))


# --- MeanVarianceNormalization -----------------------------------------------------------------


def _axes(node: Node, rank: int) -> tuple[int, ...]:
    given = integers(node, "axes")
    return normalize_axes(node, (0, 2, 3) if given is None else given, rank)


def _mvn_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    if x.shape is not None:
        _axes(node, len(x.shape))
    return same_type(node, inputs)


def _mvn(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    given = required(node, inputs, 0)
    x, axes = wide(given), _axes(node, given.ndim)
    deviation = x.std(axis=axes, keepdims=True) + _MEAN_VARIANCE_EPSILON
    return (rounded((x - x.mean(axis=axes, keepdims=True)) / deviation, dtype_of(given)),)


def _mvn_lower(lowering: Lowering) -> None:
    given, out = lowering.input(0), lowering.output
    shape, working = given.static_shape, _working(given)
    x, axes = _widened(lowering, given, working), _axes(lowering.node, len(shape))
    mean = _reduced(lowering, x, "mean", axes)
    centred = lowering.temporary(shape, working)
    lowering.call("elementwise", (x, mean), centred, expr=Arg(0) - Arg(1))
    squares = _reduced(lowering, centred, "sum_square", axes)
    count = math.prod(shape[i] for i in axes)
    y = Arg(0) / (call("sqrt", Arg(1) * (1 / count)) + _MEAN_VARIANCE_EPSILON)
    lowering.call("elementwise", (centred, squares), out, expr=_stored(y, out, working))


register(
    "RMSNormalization",
    Operator(since=23, infer=_rms_infer, reference=_rms, lower=_rms_lower, flops=_flops),
)
register(
    "LpNormalization",
    Operator(since=1, infer=_lp_infer, reference=_lp, lower=_lp_lower, flops=_flops),
)
register(
    "MeanVarianceNormalization",
    Operator(since=9, infer=_mvn_infer, reference=_mvn, lower=_mvn_lower, flops=_flops),
)
