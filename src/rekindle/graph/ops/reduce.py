"""Reductions over axes; `axes` became an input in opset 13 (ReduceSum) and 18 (the others)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rekindle.graph.expr import Arg, Expr, call, exp, substitute, where
from rekindle.graph.ir import Array, Node, Value, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag
from rekindle.graph.ops._axes import AxesSource, reduced_axes, reduced_shape, reduced_unknown
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import numel, required

NAMES = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip

_MOVED = 18
"""The opset in which `axes` became an input."""


@dataclass(frozen=True)
class _Kind:
    """A reduction: in NumPy, and as a logical `reduce` between two expressions."""

    compute: Callable[[Array, tuple[int, ...], bool], Array]
    kind: str
    before: Expr | None = None
    after: Expr | None = None
    moved: int = _MOVED


def _sum(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """In the dtype of x: NumPy would widen small integers."""
    return np.asarray(x.sum(axis=axes, keepdims=keepdims, dtype=x.dtype))


def _mean(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """NaN over nothing; integers are rounded towards zero by the caller."""
    count = math.prod(x.shape[axis] for axis in axes)
    return np.asarray(x.sum(axis=axes, keepdims=keepdims) / np.float64(count))


def _log_sum_exp(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    peak = x.max(axis=axes, keepdims=True, initial=-np.inf)
    peak = np.where(np.isfinite(peak), peak, 0)
    total = np.log(_sum(np.exp(x - peak), axes, True)) + peak
    return total if keepdims else total.squeeze(axes)


def _extreme(function: Callable[..., Array]) -> Callable[[Array, tuple[int, ...], bool], Array]:
    """Maximum or minimum; over nothing it is the least or the greatest value of the dtype."""
    greatest = function is np.min

    def compute(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        if x.dtype.kind == "f":
            initial: float | bool = np.inf if greatest else -np.inf
        elif x.dtype.kind == "b":
            initial = greatest
        else:
            limits = np.iinfo(x.dtype)
            initial = limits.max if greatest else limits.min
        return np.asarray(function(x, axis=axes, keepdims=keepdims, initial=initial))

    return compute


_KINDS = {
    "ReduceL1": _Kind(lambda x, a, k: _sum(np.abs(x), a, k), "sum", before=call("abs", Arg(0))),
    "ReduceL2": _Kind(
        lambda x, a, k: np.sqrt(_sum(x * x, a, k)), "sum_square", after=call("sqrt", Arg(0))
    ),
    "ReduceLogSum": _Kind(lambda x, a, k: np.log(_sum(x, a, k)), "sum", after=call("log", Arg(0))),
    "ReduceLogSumExp": _Kind(_log_sum_exp, "sum"),
    "ReduceMax": _Kind(_extreme(np.max), "max"),
    "ReduceMean": _Kind(_mean, "mean"),
    "ReduceMin": _Kind(_extreme(np.min), "min"),
    "ReduceProd": _Kind(
        lambda x, a, k: np.asarray(x.prod(axis=a, keepdims=k, dtype=x.dtype)), "prod"
    ),
    "ReduceSum": _Kind(_sum, "sum", moved=13),
    "ReduceSumSquare": _Kind(lambda x, a, k: _sum(x * x, a, k), "sum_square"),
}


def _operator(name: str, kind: _Kind, since: int, source: AxesSource) -> Operator:
    def infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
        x, keepdims = required(node, inputs, 0), flag(node, "keepdims", True)
        given = source.operand(inputs)
        if x.shape is None:
            return (TensorType(x.dtype, None),)
        rank = len(x.shape)
        if given is not None and given.constant is None:
            return (TensorType(x.dtype, reduced_unknown(node, rank, given, keepdims)),)
        axes = source.attribute_or(node, given.constant if given else None)
        shape = reduced_shape(x.shape, reduced_axes(node, axes, rank), keepdims)
        return (TensorType(x.dtype, shape),)

    def reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = required(node, inputs, 0)
        axes = reduced_axes(node, source.from_arrays(node, inputs), x.ndim)
        values = kind.compute(wide(x), axes, flag(node, "keepdims", True))
        return (rounded(values, dtype_of(x)),)

    def lower(lowering: Lowering) -> None:
        x = lowering.input(0)
        axes = reduced_axes(lowering.node, source.from_lowering(lowering), len(x.static_shape))
        if name == "ReduceLogSumExp" and axes:
            _lower_log_sum_exp(lowering, axes)
        else:
            _lower(lowering, kind, axes)

    def flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
        x = required(node, inputs, 0)
        each = 3 if name == "ReduceLogSumExp" else 1 + (kind.kind == "sum_square")
        return each * numel(x.shape)

    return Operator(since=since, infer=infer, reference=reference, lower=lower, flops=flops)


def _lower(lowering: Lowering, kind: _Kind, axes: tuple[int, ...]) -> None:
    x, out = lowering.input(0), lowering.output
    if not axes:
        one = kind.before or Arg(0)
        one = one * one if kind.kind == "sum_square" else one
        whole = substitute(kind.after, lambda _: one) if kind.after else one
        lowering.call("elementwise", (x,), out, expr=whole)
        return
    if kind.before is not None:
        kept = lowering.temporary(x.static_shape, x.dtype)
        x = lowering.call("elementwise", (x,), kept, expr=kind.before)
    if kind.after is None:
        lowering.call("reduce", (x,), out, kind=kind.kind, axes=axes)
        return
    total = lowering.temporary(out.static_shape, x.dtype)
    lowering.call("reduce", (x,), total, kind=kind.kind, axes=axes)
    lowering.call("elementwise", (total,), out, expr=kind.after)


def _lower_log_sum_exp(lowering: Lowering, axes: tuple[int, ...]) -> None:
    """log(sum(exp(x - peak))) + peak, where an infinite peak counts as 0."""
    x, out = lowering.input(0), lowering.output
    kept = reduced_shape(x.static_shape, axes, keepdims=True)
    shape = tuple(int(d) for d in kept)

    def temporary(of: tuple[int, ...]) -> Value:
        return lowering.temporary(of, x.dtype)

    peak = lowering.call("reduce", (x,), temporary(shape), kind="max", axes=axes)
    finite = where(call("isinf", Arg(1)), 0.0, Arg(1))
    powers = temporary(x.static_shape)
    lowering.call("elementwise", (x, peak), powers, expr=exp(Arg(0) - finite))
    total = lowering.call("reduce", (powers,), temporary(shape), kind="sum", axes=axes)
    if out.static_shape != shape:
        total = lowering.view(total, out.static_shape)
        peak = lowering.view(peak, out.static_shape)
    lowering.call("elementwise", (total, peak), out, expr=call("log", Arg(0)) + finite)


for _name, _kind in _KINDS.items():
    register(
        _name,
        _operator(_name, _kind, 1, AxesSource()),
        _operator(_name, _kind, _kind.moved, AxesSource(index=1)),
    )
