"""Expand and Tile: an input repeated to a larger shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Dim
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._copies import Walk, copy, row_major
from rekindle.graph.ops._shapes import (
    broadcast,
    length,
    required,
    unknown_dim,
    unknown_shape,
    whole_numbers,
)

NAMES = ("Expand", "Tile")


def _expand_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, target = required(node, inputs, 0), required(node, inputs, 1)
    wanted = whole_numbers(node, target.constant)
    if wanted is not None:
        return (TensorType(x.dtype, broadcast(node, x.shape, wanted)),)
    count = length(target)
    if x.shape is None or count is None:
        return (TensorType(x.dtype, None),)
    return (TensorType(x.dtype, unknown_shape(node, max(count, len(x.shape)))),)


def _expand(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, wanted = required(node, inputs, 0), whole_numbers(node, required(node, inputs, 1)) or ()
    return (np.broadcast_to(x, np.broadcast_shapes(x.shape, wanted)),)


def _expand_lower(lowering: Lowering) -> None:
    """A copy whose step is 0 along the axes that grow."""
    x, out = lowering.input(0), lowering.output
    shape = out.static_shape
    padded = (1,) * (len(shape) - len(x.static_shape)) + x.static_shape
    steps = [0 if d == 1 else s for d, s in zip(padded, row_major(padded), strict=True)]
    copy(lowering, x, out, shape, Walk(tuple(steps)), Walk(row_major(shape)))


def _repeated(node: Node, axis: int, dim: Dim, count: int) -> Dim:
    if isinstance(dim, int):
        return dim * count
    return dim if count == 1 else unknown_dim(node, axis)


def _tile_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, repeats = required(node, inputs, 0), required(node, inputs, 1)
    counts = whole_numbers(node, repeats.constant)
    if x.shape is None:
        return (TensorType(x.dtype, None),)
    if counts is None:
        return (TensorType(x.dtype, unknown_shape(node, len(x.shape))),)
    if len(counts) != len(x.shape) or min(counts, default=0) < 0:
        raise ModelError(f"node {node}: repeats {list(counts)} do not fit {list(x.shape)}")
    dims = zip(x.shape, counts, strict=True)
    return (TensorType(x.dtype, tuple(_repeated(node, i, d, c) for i, (d, c) in enumerate(dims))),)


def _tile(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, counts = required(node, inputs, 0), whole_numbers(node, required(node, inputs, 1))
    return (np.tile(x, counts or ()),)


def _tile_lower(lowering: Lowering) -> None:
    """A copy over pairs of axes: which repeat (step 0 in the input), and where within it."""
    x, out = lowering.input(0), lowering.output
    shape, target = x.static_shape, row_major(out.static_shape)
    walked: list[int] = []
    steps_in: list[int] = []
    steps_out: list[int] = []
    sizes = zip(shape, out.static_shape, row_major(shape), target, strict=True)
    for size, total, step_in, step_out in sizes:
        walked += [total // size, size]
        steps_in += [0, step_in]
        steps_out += [size * step_out, step_out]
    copy(lowering, x, out, walked, Walk(tuple(steps_in)), Walk(tuple(steps_out)))


register("Expand", Operator(since=8, infer=_expand_infer, reference=_expand, lower=_expand_lower))
register("Tile", Operator(since=6, infer=_tile_infer, reference=_tile, lower=_tile_lower))
