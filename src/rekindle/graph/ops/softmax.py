"""Softmax, LogSoftmax and Hardmax: along one axis since opset 13, over a 2-D view before.

Until opset 12 the input is coerced to two dimensions, split before `axis` (default 1), and the
operator works along the second; since then it works along `axis` (default -1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from rekindle._types import DType
from rekindle.graph.expr import Arg, Cast, call
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Lower, Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer
from rekindle.graph.ops._axes import first_extreme
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import normalize_axis, numel, required, same_type

NAMES = ("Hardmax", "LogSoftmax", "Softmax")

_FLOPS_EACH = 5
"""Maximum, difference, exponential, sum, quotient."""


def _softmax(x: Array, axis: int) -> Array:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _log_softmax(x: Array, axis: int) -> Array:
    shifted = x - x.max(axis=axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


def _hardmax(x: Array, axis: int) -> Array:
    """1 where ArgMax finds the first maximum, 0 elsewhere."""
    found = np.zeros_like(x)
    place = np.expand_dims(first_extreme(x, axis, np.greater), axis)
    np.put_along_axis(found, place, 1, axis=axis)
    return found


def _axis(node: Node, rank: int, *, coerced: bool) -> int:
    return normalize_axis(node, integer(node, "axis", 1 if coerced else -1), rank)


def _operator(compute: Callable[[Array, int], Array], lower: Lower | None, since: int) -> Operator:
    coerced = since < 13

    def infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
        x = required(node, inputs, 0)
        if x.shape is not None:
            _axis(node, len(x.shape), coerced=coerced)
        return same_type(node, inputs)

    def reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = required(node, inputs, 0)
        axis = _axis(node, x.ndim, coerced=coerced)
        values = wide(x)
        if not values.size:
            return (x,)
        if coerced:
            values, axis = values.reshape(math.prod(x.shape[:axis]), -1), 1
        return (rounded(compute(np.atleast_1d(values), axis).reshape(x.shape), dtype_of(x)),)

    def flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
        return _FLOPS_EACH * numel(outputs[0].shape)

    return Operator(
        since=since,
        infer=infer,
        reference=reference,
        lower=lower,
        flops=flops if lower else None,
    )


def _lower(log: bool, *, coerced: bool) -> Lower:
    def lower(lowering: Lowering) -> None:
        x, out = lowering.input(0), lowering.output
        shape = x.static_shape
        if not shape:
            raise NotLowered("the softmax of a scalar")
        axis = _axis(lowering.node, len(shape), coerced=coerced)
        extents = [i for i, d in enumerate(shape[axis:], axis) if d != 1]
        if coerced and len(extents) > 1:
            flat = (math.prod(shape[:axis]), math.prod(shape[axis:]))
            y = lowering.temporary(flat, x.dtype)
            lowering.call("softmax", (lowering.view(x, flat),), y, axis=1, log=log)
            lowering.call("view", (y,), out)
        else:
            along = extents[0] if coerced and extents else axis
            lowering.call("softmax", (x,), out, axis=along, log=log)

    return lower


def _lower_hardmax(*, coerced: bool) -> Lower:
    """1 where a position along the axis is that of the first maximum."""

    def lower(lowering: Lowering) -> None:
        x, out = lowering.input(0), lowering.output
        shape = x.static_shape
        if not shape:
            raise NotLowered("the hardmax of a scalar")
        axis = _axis(lowering.node, len(shape), coerced=coerced)
        if coerced:
            shape, axis = (math.prod(shape[:axis]), math.prod(shape[axis:])), 1
            x = lowering.view(x, shape)
        kept = tuple(1 if i == axis else d for i, d in enumerate(shape))
        found = lowering.temporary(kept, DType.INT64)
        lowering.call("arg_reduce", (x,), found, kind="max", axis=axis, last=False)
        along = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        y = lowering.temporary(shape, out.dtype)
        equal = Cast(out.dtype, call("eq", Arg(0), Arg(1)))
        lowering.call("elementwise", (lowering.literal(along), found), y, expr=equal)
        lowering.call("view", (y,), out)

    return lower


register(
    "Softmax",
    _operator(_softmax, _lower(False, coerced=True), 1),
    _operator(_softmax, _lower(False, coerced=False), 13),
)
register(
    "LogSoftmax",
    _operator(_log_softmax, _lower(True, coerced=True), 1),
    _operator(_log_softmax, _lower(True, coerced=False), 13),
)
register(
    "Hardmax",
    _operator(_hardmax, _lower_hardmax(coerced=True), 1),
    _operator(_hardmax, _lower_hardmax(coerced=False), 13),
)
