"""NonZero (on the host: only the data tells its size), OneHot, CumSum and Trilu."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Dim, DType
from rekindle.graph.expr import Arg, Cast, Const, Expr, call, where
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag, integer
from rekindle.graph.ops._copies import Walk, copy
from rekindle.graph.ops._cumulation import cumulate
from rekindle.graph.ops._cumulation import flops as cumulate_flops
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import (
    known_rank,
    normalize_axis,
    optional,
    required,
    same_type,
    unknown_dim,
)

NAMES = ("CumSum", "NonZero", "OneHot", "Trilu")


def _non_zero_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    """(rank, how many): only the data tells the second."""
    shape = required(node, inputs, 0).shape
    rank: Dim = unknown_dim(node, 0) if shape is None else len(shape)
    return (TensorType(DType.INT64, (rank, unknown_dim(node, 1))),)


def _non_zero(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = required(node, inputs, 0)
    if not x.ndim:
        return (np.zeros((0, int(x != 0)), np.int64),)
    return (np.array(np.nonzero(x), np.int64),)


def _one_hot_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    indices, depth, values = (required(node, inputs, i) for i in range(3))
    if indices.shape is None:
        return (TensorType(values.dtype, None),)
    axis = normalize_axis(node, integer(node, "axis", -1), len(indices.shape) + 1)
    size: Dim = unknown_dim(node, axis)
    if depth.constant is not None:
        size = int(depth.constant.reshape(-1)[0])
    shape = (*indices.shape[:axis], size, *indices.shape[axis:])
    return (TensorType(values.dtype, shape),)


def _one_hot(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """An index out of [-depth, depth) is off everywhere."""
    indices, depth, values = (required(node, inputs, i) for i in range(3))
    axis = normalize_axis(node, integer(node, "axis", -1), indices.ndim + 1)
    size = int(depth.reshape(-1)[0])
    places = np.where(indices < 0, indices + size, indices)
    along = np.arange(size).reshape([-1 if i == axis else 1 for i in range(indices.ndim + 1)])
    return (np.where(np.expand_dims(places, axis) == along, values[1], values[0]),)


def _cum_sum(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    given, axis_input = required(node, inputs, 0), required(node, inputs, 1)
    x = wide(given)
    axis = normalize_axis(node, int(axis_input.reshape(-1)[0]), x.ndim)
    if flag(node, "reverse"):
        x = np.flip(x, axis)
    total = np.cumsum(x, axis=axis, dtype=x.dtype)
    if flag(node, "exclusive"):
        total = total - x
    if flag(node, "reverse"):
        total = np.flip(total, axis)
    return (rounded(total, dtype_of(given)),)


def _trilu_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    known_rank(node, required(node, inputs, 0), at_least=2)
    return same_type(node, inputs)


def _trilu(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, diagonal = required(node, inputs, 0), optional(inputs, 1)
    k = 0 if diagonal is None else int(diagonal.reshape(-1)[0])
    if x.ndim < 2:
        raise ModelError(f"node {node}: its input has shape {x.shape}, expected a matrix")
    return (np.triu(x, k) if flag(node, "upper", True) else np.tril(x, k),)


def _trilu_lower(lowering: Lowering) -> None:
    """What lies beyond the diagonal is 0: a comparison of the columns' and the rows' numbers."""
    x, out = lowering.input(0), lowering.output
    if x.dtype.itemsize == 0:
        raise NotLowered("strings")
    rows, columns = x.static_shape[-2:]
    values = [
        x,
        lowering.literal(np.arange(rows)[:, None]),
        lowering.literal(np.arange(columns)),
    ]
    distance: Expr = Arg(2) - Arg(1)
    if lowering.has_input(1):
        values.append(lowering.view(lowering.input(1), ()))
        distance = distance - Arg(3)
    upper = flag(lowering.node, "upper", True)
    kept = distance >= 0 if upper else distance <= 0
    zero: Expr = Cast(x.dtype, Const(0))
    lowering.call("elementwise", values, out, expr=where(kept, Arg(0), zero))


def _one_hot_lower(lowering: Lowering) -> None:
    """Each place against the numbers along the new axis."""
    indices, values, out = lowering.input(0), lowering.input(2), lowering.output
    axis = normalize_axis(lowering.node, integer(lowering.node, "axis", -1), len(out.static_shape))
    size, rank = out.static_shape[axis], len(out.static_shape)
    given = indices.static_shape
    places = lowering.view(indices, (*given[:axis], 1, *given[axis:]))
    along = np.arange(size).reshape([-1 if i == axis else 1 for i in range(rank)])
    pair = []
    for offset in range(2):
        one = lowering.temporary((), values.dtype)
        copy(lowering, values, one, (), Walk((), offset), Walk(()))
        pair.append(one)
    if indices.dtype.is_float:
        index: Expr = Arg(0)
        counted: Expr = Cast(indices.dtype, Arg(1))
    else:
        index, counted = Cast(DType.INT64, Arg(0)), Arg(1)
    wrapped = where(index < 0, index + size, index)
    expr = where(call("eq", wrapped, counted), Arg(3), Arg(2))
    lowering.call("elementwise", (places, lowering.literal(along), *pair), out, expr=expr)


def _cum_sum_lower(lowering: Lowering) -> None:
    cumulate(lowering, "sum")


register("NonZero", Operator(since=9, infer=_non_zero_infer, reference=_non_zero))
register(
    "OneHot", Operator(since=9, infer=_one_hot_infer, reference=_one_hot, lower=_one_hot_lower)
)
register(
    "CumSum",
    Operator(
        since=11, infer=same_type, reference=_cum_sum, lower=_cum_sum_lower, flops=cumulate_flops
    ),
)
register("Trilu", Operator(since=14, infer=_trilu_infer, reference=_trilu, lower=_trilu_lower))
