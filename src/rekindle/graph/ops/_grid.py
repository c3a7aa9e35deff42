"""GridSample on the device: every neighbour of every position is a row gathered by index."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.graph.expr import Arg, Cast, Expr, call, maximum, minimum, where
from rekindle.graph.ir import Value
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops._copies import Walk, copy, row_major
from rekindle.graph.ops._sampling import WEIGHTS, Sampling

_WORKING = DType.FLOAT32


def lower_sample(lowering: Lowering, how: Sampling) -> None:
    """Input 0 (N, C, *S) at input 1 (N, *O, rank): float32 arithmetic, any of the modes."""
    x, grid, out = lowering.input(0), lowering.input(1), lowering.output
    if not x.dtype.is_float or DType.FLOAT64 in (x.dtype, grid.dtype):
        raise NotLowered(f"{lowering.node.op_type} of {x.dtype} at {grid.dtype}")
    batch, channels, *sizes = x.static_shape
    points = math.prod(grid.static_shape[1:-1])
    rows = _rows(lowering, x)
    places = lowering.view(grid, (batch, points, len(sizes)))
    along = [
        _position(lowering, places, len(sizes) - 1 - i, size, how) for i, size in enumerate(sizes)
    ]
    starts = lowering.literal(np.arange(batch).reshape(-1, 1, 1) * math.prod(sizes))
    shifts, _ = WEIGHTS[how.order]
    total: Value | None = None
    for taps in itertools.product(range(len(shifts)), repeat=len(sizes)):
        index = lowering.temporary((batch, points, 1), DType.INT64)
        which = _index(taps, sizes, how)
        lowering.call("elementwise", (*along, starts), index, expr=which)
        read = lowering.temporary((batch, points, channels), rows.dtype)
        lowering.call("gather", (rows, lowering.view(index, (batch, points))), read, axis=0)
        term = Arg(len(sizes)) * _weight(taps, sizes, how)
        operands = [*along, read]
        if total is not None:
            operands.append(total)
            term = term + Arg(len(sizes) + 1)
        total = lowering.temporary((batch, points, channels), _WORKING)
        lowering.call("elementwise", operands, total, expr=term)
    assert total is not None
    _channels_first(lowering, total, out)


def _rows(lowering: Lowering, x: Value) -> Value:
    """(N * S, C), in float32: the channels of an element side by side."""
    batch, channels, *sizes = x.static_shape
    count = math.prod(sizes)
    if x.dtype is not _WORKING:
        wide = lowering.temporary(x.static_shape, _WORKING)
        x = lowering.call("elementwise", (x,), wide, expr=Cast(_WORKING, Arg(0)))
    rows = lowering.temporary((batch * count, channels), _WORKING)
    source = Walk((channels * count, 1, count))
    shape = (batch, count, channels)
    copy(lowering, x, rows, shape, source, Walk(row_major(shape)))
    return rows


def _channels_first(lowering: Lowering, y: Value, out: Value) -> None:
    """(N, points, C) into `out` (N, C, *O)."""
    batch, points, channels = y.static_shape
    if out.dtype is not y.dtype:
        stored = lowering.temporary(y.static_shape, out.dtype)
        y = lowering.call("elementwise", (y,), stored, expr=Cast(out.dtype, Arg(0)))
    shape = (batch, channels, points)
    source = Walk((points * channels, 1, channels))
    copy(lowering, y, out, shape, source, Walk(row_major(shape)))


def _position(lowering: Lowering, places: Value, which: int, size: int, how: Sampling) -> Value:
    """Positions along one axis in elements, folded or clipped at its ends: (N, points, 1)."""
    shape = (*places.static_shape[:2], 1)
    picked = lowering.temporary(shape, places.dtype)
    lowering.call("gather", (places, lowering.literal(np.array([which]))), picked, axis=2)
    grid: Expr = Arg(0) if places.dtype is _WORKING else Cast(_WORKING, Arg(0))
    at = (grid + 1.0) * ((size - 1) / 2) if how.corners else ((grid + 1.0) * size - 1.0) * 0.5
    if how.order == "nearest":
        at = call("round", at)
    low, high = how.ends(size)
    if how.padding == "border" and how.order != "cubic":
        at = minimum(maximum(at, 0.0), float(size - 1))
    elif how.padding == "reflection":
        at = _reflected(at, low, high)
    # A position that is no number reads the first element, as no index may be wild.
    at = where(call("isnan", at), 0.0, at)
    return lowering.call("elementwise", (picked,), lowering.temporary(shape, _WORKING), expr=at)


def _reflected(x: Expr, low: float, high: float) -> Expr:
    """Folded back at both ends until inside."""
    span = high - low
    if span <= 0:
        return x * 0.0 + low
    away = maximum(low - x, x - high)
    turns = call("floor", away * (1 / span))
    rest = away - turns * span
    even = call("eq", call("fmod", turns, 2.0), 0.0)
    below, above = where(even, low + rest, high - rest), where(even, high - rest, low + rest)
    return where(x < low, below, where(x > high, above, x))


def _element(axis: int, tap: int, how: Sampling) -> Expr:
    """The element that a tap reads along an axis, past the ends too."""
    return call("floor", Arg(axis)) + float(WEIGHTS[how.order][0][tap])


def _index(taps: Sequence[int], sizes: Sequence[int], how: Sampling) -> Expr:
    """The row of an element; Arg(i) are the positions, the last argument each image's first row."""
    total: Expr = Arg(len(sizes))
    for axis, (tap, size) in enumerate(zip(taps, sizes, strict=True)):
        element = _element(axis, tap, how)
        if how.padding == "reflection":
            # Towards zero, as the standard's own reference does.
            folded = _reflected(element, *how.ends(size))
            element = where(folded < 0.0, call("ceil", folded), call("floor", folded))
        bounded = minimum(maximum(element, 0.0), float(size - 1))
        total = total + Cast(DType.INT64, bounded) * math.prod(sizes[axis + 1 :])
    return total


def _weight(taps: Sequence[int], sizes: Sequence[int], how: Sampling) -> Expr:
    """How much an element counts; with zeros around, those outside count for nothing."""
    product: Expr | None = None
    for axis, (tap, size) in enumerate(zip(taps, sizes, strict=True)):
        weight = WEIGHTS[how.order][1][tap](Arg(axis) - call("floor", Arg(axis)))
        if how.padding == "zeros":
            element = _element(axis, tap, how)
            inside = call("and", element >= 0.0, element <= float(size - 1))
            weight = where(inside, weight, 0.0)
        product = weight if product is None else product * weight
    assert product is not None
    return product
