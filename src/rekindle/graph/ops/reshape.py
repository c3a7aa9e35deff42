"""Reshape and Flatten: the same elements under another shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rekindle._errors import ModelError
from rekindle._types import Dim, Shape
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag, integer
from rekindle.graph.ops._shapes import (
    length,
    normalize_axis,
    product,
    quotient,
    required,
    unknown_dim,
    unknown_shape,
    whole_numbers,
)

NAMES = ("Flatten", "Reshape")


def _target(node: Node, shape: Shape, wanted: Sequence[int]) -> Shape:
    """`wanted` with 0 (the input's size there, unless allowzero) and -1 (the rest) resolved."""
    keep_zero = flag(node, "allowzero")
    found: list[Dim] = []
    for axis, size in enumerate(wanted):
        if size == 0 and not keep_zero:
            if axis >= len(shape):
                raise ModelError(
                    f"node {node}: size 0 at axis {axis} copies from {list(shape)}, which has none"
                )
            found.append(shape[axis])
        elif size < -1:
            raise ModelError(f"node {node}: cannot reshape to {list(wanted)}")
        else:
            found.append(size)
    if wanted.count(-1) > 1:
        raise ModelError(f"node {node}: more than one -1 in {list(wanted)}")
    if -1 in wanted:
        place = list(wanted).index(-1)
        found[place] = _rest(node, shape, [d for i, d in enumerate(found) if i != place], place)
    if math.prod(_ints(shape)) != math.prod(_ints(found)) and _static(shape) and _static(found):
        raise ModelError(f"node {node}: cannot reshape {list(shape)} to {list(wanted)}")
    return tuple(found)


def _rest(node: Node, shape: Shape, others: Sequence[Dim], place: int) -> Dim:
    rest = quotient(shape, others)
    if rest is not None:
        return rest
    if _static(shape) and _static(others):
        raise ModelError(
            f"node {node}: {list(shape)} has no whole number of rows of {list(others)}"
        )
    return unknown_dim(node, place)


def _ints(dims: Sequence[Dim]) -> list[int]:
    return [d for d in dims if isinstance(d, int)]


def _static(dims: Sequence[Dim]) -> bool:
    return len(_ints(dims)) == len(dims)


def _reshape_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, target = required(node, inputs, 0), required(node, inputs, 1)
    wanted = whole_numbers(node, target.constant)
    if wanted is None:
        rank = length(target)
        return (TensorType(x.dtype, None if rank is None else unknown_shape(node, rank)),)
    if x.shape is None:
        if min(wanted, default=1) > 0:
            return (TensorType(x.dtype, wanted),)
        return (TensorType(x.dtype, unknown_shape(node, len(wanted))),)
    return (TensorType(x.dtype, _target(node, x.shape, wanted)),)


def _reshape(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = required(node, inputs, 0)
    wanted = whole_numbers(node, required(node, inputs, 1)) or ()
    return (x.reshape(_ints(_target(node, x.shape, wanted))),)


def _flatten_shape(node: Node, shape: Shape) -> Shape:
    axis = integer(node, "axis", 1)
    axis = axis if axis == len(shape) else normalize_axis(node, axis, len(shape))
    return (product(shape[:axis]), product(shape[axis:]))


def _flatten_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    if x.shape is None:
        return (TensorType(x.dtype, unknown_shape(node, 2)),)
    return (TensorType(x.dtype, _flatten_shape(node, x.shape)),)


def _flatten(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = required(node, inputs, 0)
    return (x.reshape(_ints(_flatten_shape(node, x.shape))),)


def _lower(lowering: Lowering) -> None:
    lowering.call("view", (lowering.input(0),), lowering.output)


register("Reshape", Operator(since=5, infer=_reshape_infer, reference=_reshape, lower=_lower))
register("Flatten", Operator(since=1, infer=_flatten_infer, reference=_flatten, lower=_lower))
