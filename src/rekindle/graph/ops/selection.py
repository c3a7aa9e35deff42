"""Compress, Unique, ReverseSequence, CenterCropPad and EyeLike: on the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Dim, DType, Shape
from rekindle.graph.ir import Array, Node, dtype_of, numpy_dtype
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import dtype, flag, integer, integers
from rekindle.graph.ops._shapes import (
    known_rank,
    normalize_axis,
    required,
    same_type,
    unknown_dim,
    unknown_shape,
    whole_numbers,
)

NAMES = ("CenterCropPad", "Compress", "EyeLike", "ReverseSequence", "Unique")


def _with_dim(shape: Shape, axis: int, dim: Dim) -> Shape:
    return (*shape[:axis], dim, *shape[axis + 1 :])


# --- Compress ----------------------------------------------------------------------------------


def _compress_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, axis = required(node, inputs, 0), node.attr("axis")
    if axis is None:
        return (TensorType(x.dtype, (unknown_dim(node, 0),)),)
    if x.shape is None:
        return (TensorType(x.dtype, None),)
    along = normalize_axis(node, integer(node, "axis"), len(x.shape))
    return (TensorType(x.dtype, _with_dim(x.shape, along, unknown_dim(node, along))),)


def _compress(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, kept = required(node, inputs, 0), required(node, inputs, 1)
    return (np.compress(kept, x, axis=node.attr("axis")),)


# --- Unique ------------------------------------------------------------------------------------


def _unique_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, axis = required(node, inputs, 0), node.attr("axis")
    shape: Shape | None = (unknown_dim(node, 0),)
    if axis is not None:
        shape = None
        if x.shape is not None:
            along = normalize_axis(node, integer(node, "axis"), len(x.shape))
            shape = _with_dim(x.shape, along, unknown_dim(node, along))
    found = (
        TensorType(DType.INT64, (unknown_dim(node, 0, i),)) for i in range(1, len(node.outputs))
    )
    return (TensorType(x.dtype, shape), *found)


def _unique(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Values, where each is first, which one each element is, and how often each is there."""
    x, axis = required(node, inputs, 0), node.attr("axis")
    _, first, inverse, counts = np.unique(
        x, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    order = np.arange(len(first)) if flag(node, "sorted", True) else np.argsort(first)
    places = np.argsort(order)
    values = (x.reshape(-1) if axis is None else x).take(first[order], axis=axis or 0)
    return values, first[order], places[inverse.reshape(-1)], counts[order]


# --- ReverseSequence ---------------------------------------------------------------------------


def _reverse(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, lengths = required(node, inputs, 0), required(node, inputs, 1)
    batch = normalize_axis(node, integer(node, "batch_axis", 1), x.ndim)
    time = normalize_axis(node, integer(node, "time_axis", 0), x.ndim)
    if batch == time:
        raise ModelError(f"node {node}: batch_axis and time_axis are both {batch}")
    y = x.copy()
    rows, source = np.moveaxis(y, (batch, time), (0, 1)), np.moveaxis(x, (batch, time), (0, 1))
    for row, length in enumerate(lengths):
        rows[row, :length] = source[row, :length][::-1]
    return (y,)


# --- CenterCropPad -----------------------------------------------------------------------------


def _crop_axes(node: Node, rank: int) -> tuple[int, ...]:
    given = integers(node, "axes")
    return tuple(normalize_axis(node, a, rank) for a in (range(rank) if given is None else given))


def _crop_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, sizes = required(node, inputs, 0), whole_numbers(node, required(node, inputs, 1).constant)
    if x.shape is None:
        return (TensorType(x.dtype, None),)
    if sizes is None:
        return (TensorType(x.dtype, unknown_shape(node, len(x.shape))),)
    shape: Shape = x.shape
    for axis, size in zip(_crop_axes(node, len(x.shape)), sizes, strict=True):
        shape = _with_dim(shape, axis, size)
    return (TensorType(x.dtype, shape),)


def _crop(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """An odd position more is cut, or added, at the end."""
    x, sizes = required(node, inputs, 0), required(node, inputs, 1)
    for axis, size in zip(_crop_axes(node, x.ndim), map(int, sizes), strict=True):
        given = x.shape[axis]
        start = max(given - size, 0) // 2
        x = x.take(range(start, start + min(size, given)), axis=axis)
        missing = max(size - given, 0)
        around = [(0, 0)] * x.ndim
        around[axis] = (missing // 2, missing - missing // 2)
        x = np.pad(x, around)
    return (x,)


# --- EyeLike -----------------------------------------------------------------------------------


def _eye_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    if known_rank(node, x, at_least=2) not in (None, 2):
        raise ModelError(f"node {node}: an input of shape {list(x.shape or ())}, expected a matrix")
    return (TensorType(dtype(node, "dtype", x.dtype), x.shape),)


def _eye(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = required(node, inputs, 0)
    to = numpy_dtype(dtype(node, "dtype", dtype_of(x)))
    rows, columns = x.shape
    return (np.eye(rows, columns, k=integer(node, "k", 0)).astype(to),)


register("Compress", Operator(since=9, infer=_compress_infer, reference=_compress))
register("Unique", Operator(since=11, infer=_unique_infer, reference=_unique))
register("ReverseSequence", Operator(since=10, infer=same_type, reference=_reverse))
register("CenterCropPad", Operator(since=18, infer=_crop_infer, reference=_crop))
register("EyeLike", Operator(since=9, infer=_eye_infer, reference=_eye))
