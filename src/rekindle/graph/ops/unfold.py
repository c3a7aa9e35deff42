"""Col2Im and MaxUnpool: images put together again from blocks or maxima; on the host."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Dim, Shape
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integers, per_axis
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import optional, required, unknown_dim, whole_numbers
from rekindle.graph.ops._windows import Window, window

NAMES = ("Col2Im", "MaxUnpool")


def _col2im_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    image, block = (whole_numbers(node, required(node, inputs, i).constant) for i in (1, 2))
    if x.shape is None or len(x.shape) != 3 or image is None:
        return (TensorType(x.dtype, None),)
    channels: Dim = unknown_dim(node, 1)
    if block is not None and isinstance(x.shape[1], int):
        _channels(node, x.shape[1], block)
        channels = x.shape[1] // math.prod(block)
    return (TensorType(x.dtype, (x.shape[0], channels, *image)),)


def _channels(node: Node, rows: int, block: Sequence[int]) -> int:
    if min(block, default=0) < 1 or rows % math.prod(block):
        raise ModelError(f"node {node}: {rows} rows do not split into blocks of {list(block)}")
    return rows // math.prod(block)


def _col2im(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Columns (N, C * block, positions); what overlaps is added."""
    given = required(node, inputs, 0)
    image, block = (tuple(map(int, required(node, inputs, i))) for i in (1, 2))
    frame, rank = window(node, block), len(block)
    counts = [int(d) for d in frame.output_dims(node, image)]
    channels = _channels(node, given.shape[1], block)
    x = wide(given).reshape(given.shape[0], channels, *block, *counts)
    ends = [
        max((n - 1) * s + r, size + frame.pads[i] + frame.pads[i + rank])
        for i, (n, s, r, size) in enumerate(
            zip(counts, frame.strides, frame.reach, image, strict=True)
        )
    ]
    y = np.zeros((given.shape[0], channels, *ends))
    for tap in itertools.product(*map(range, block)):
        at: Any = (..., *_places(frame, tap, counts))
        seen: Any = (slice(None), slice(None), *tap)
        y[at] += x[seen]
    inner = (slice(b, b + size) for b, size in zip(frame.pads, image, strict=False))
    kept: Any = (..., *inner)
    return (rounded(y[kept], dtype_of(given)),)


def _places(frame: Window, tap: Sequence[int], counts: Sequence[int]) -> tuple[slice, ...]:
    return tuple(
        slice(t * d, t * d + s * (n - 1) + 1, s)
        for t, d, s, n in zip(tap, frame.dilations, frame.strides, counts, strict=True)
    )


def _pooled_from(node: Node, sizes: Sequence[int]) -> tuple[int, ...]:
    """The sizes that a max pool of this window makes `sizes` of."""
    kernel, rank = integers(node, "kernel_shape") or (), len(sizes)
    if len(kernel) != rank:
        raise ModelError(f"node {node}: kernel_shape {list(kernel)} for {rank} spatial axes")
    strides, pads = per_axis(node, "strides", rank, 1), per_axis(node, "pads", 2 * rank, 0, least=0)
    return tuple(
        (sizes[i] - 1) * strides[i] - pads[i] - pads[i + rank] + kernel[i] for i in range(rank)
    )


def _unpool_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, asked = required(node, inputs, 0), optional(inputs, 2)
    if x.shape is None:
        return (TensorType(x.dtype, None),)
    if asked is not None:
        return (TensorType(x.dtype, whole_numbers(node, asked.constant)),)
    sizes = [d for d in x.shape[2:] if isinstance(d, int)]
    shape: Shape = tuple(unknown_dim(node, i) for i in range(len(x.shape)))
    if len(sizes) == len(x.shape) - 2:
        shape = (*x.shape[:2], *_pooled_from(node, sizes))
    return (TensorType(x.dtype, shape),)


def _unpool(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Indices count in the pooled-from image; a larger output holds that image in its corner."""
    x, indices, asked = required(node, inputs, 0), required(node, inputs, 1), optional(inputs, 2)
    shape = (*x.shape[:2], *_pooled_from(node, x.shape[2:]))
    image = np.zeros(math.prod(shape), x.dtype)
    if indices.size and not 0 <= indices.min() <= indices.max() < image.size:
        raise ModelError(f"node {node}: an index is out of [0, {image.size})")
    image[indices.reshape(-1)] = x.reshape(-1)
    image = image.reshape(shape)
    if asked is None:
        return (image,)
    y = np.zeros(tuple(map(int, asked)), x.dtype)
    y[tuple(map(slice, shape))] = image
    return (y,)


register("Col2Im", Operator(since=18, infer=_col2im_infer, reference=_col2im))
register("MaxUnpool", Operator(since=9, infer=_unpool_infer, reference=_unpool))
