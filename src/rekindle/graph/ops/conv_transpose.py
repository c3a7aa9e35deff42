"""ConvTranspose: the gradient of a convolution, over 1, 2 or 3 spatial axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Dim
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer, integers, per_axis
from rekindle.graph.ops._convolution import frame_of
from rekindle.graph.ops._copies import Walk, copy, row_major
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import optional, required, same_dtype, unknown_dim
from rekindle.graph.ops._windows import Window


@dataclass(frozen=True)
class _Axis:
    """Along one axis: how far the input reaches, and the part of that which is kept."""

    begin: int
    size: int


def _axes(node: Node, sizes: Sequence[int], frame: Window) -> list[_Axis]:
    """Where the output lies in the full result, for each spatial axis."""
    rank = len(sizes)
    added, asked = per_axis(node, "output_padding", rank, 0, least=0), _asked(node, rank)
    if asked is None and frame.auto_pad.startswith("SAME"):
        asked = tuple(n * stride for n, stride in zip(sizes, frame.strides, strict=True))
    found = []
    for i in range(rank):
        full = frame.strides[i] * (sizes[i] - 1) + added[i] + frame.reach[i]
        if asked is None:
            pads = frame.padding(sizes)
            found.append(_Axis(pads[i], full - pads[i] - pads[i + rank]))
        else:
            total = full - asked[i]
            less = total // 2
            begin = less if frame.auto_pad == "SAME_UPPER" else total - less
            found.append(_Axis(begin, asked[i]))
    if any(axis.size < 1 for axis in found):
        raise ModelError(f"node {node}: its pads leave nothing of {[a.size for a in found]}")
    return found


def _asked(node: Node, rank: int) -> tuple[int, ...] | None:
    """`output_shape`, which some exporters write with batch and channels."""
    shape = integers(node, "output_shape")
    if not shape:
        return None
    if len(shape) not in (rank, rank + 2):
        raise ModelError(f"node {node}: output_shape {list(shape)} for {rank} spatial axes")
    return shape[-rank:]


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    """Of x (N, C, *S), w (C, M/group, *K), bias (M,): (N, M, *O)."""
    x, w = required(node, inputs, 0), required(node, inputs, 1)
    dtype = same_dtype(node, (x, w, optional(inputs, 2)))
    if x.shape is None or w.shape is None:
        return (TensorType(dtype, None),)
    if len(x.shape) != len(w.shape) or len(x.shape) < 3:
        raise ModelError(
            f"node {node}: x has shape {list(x.shape)} and the weights {list(w.shape)}, expected "
            "(N, C, sizes...) and (C, M/group, kernel...)"
        )
    group, rank = integer(node, "group", 1), len(x.shape) - 2
    if group < 1 or (isinstance(w.shape[0], int) and w.shape[0] % group):
        raise ModelError(f"node {node}: {w.shape[0]} channels do not split into {group} groups")
    filters: Dim = unknown_dim(node, 1)
    if isinstance(w.shape[1], int):
        filters = w.shape[1] * group
    sizes, kernel = (
        tuple(d for d in shape[2:] if isinstance(d, int)) for shape in (x.shape, w.shape)
    )
    spatial: tuple[Dim, ...] = tuple(unknown_dim(node, i + 2) for i in range(rank))
    if len(sizes) == len(kernel) == rank:
        spatial = tuple(a.size for a in _axes(node, sizes, frame_of(node, kernel)))
    return (TensorType(dtype, (x.shape[0], filters, *spatial)),)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Every element of x is spread over the kernel; what overlaps is added."""
    given, w, bias = required(node, inputs, 0), required(node, inputs, 1), optional(inputs, 2)
    group, kernel, sizes = integer(node, "group", 1), w.shape[2:], given.shape[2:]
    frame = frame_of(node, kernel)
    axes = _axes(node, sizes, frame)
    n, channels = given.shape[:2]
    x = wide(given).reshape(n, group, channels // group, *sizes)
    weights = wide(w).reshape(group, x.shape[2], *w.shape[1:])
    reach = [max(a.begin, 0) + a.size for a in axes]
    full = [
        max(s * (n - 1) + r, end)
        for s, n, r, end in zip(frame.strides, sizes, frame.reach, reach, strict=True)
    ]
    total = np.zeros((n, group, w.shape[1], *full))
    for tap in itertools.product(*map(range, kernel)):
        places: Any = tuple(
            slice(t * d, t * d + s * (n - 1) + 1, s)
            for t, d, s, n in zip(tap, frame.dilations, frame.strides, sizes, strict=True)
        )
        at: Any = (slice(None), slice(None), slice(None), *tap)
        total[(..., *places)] += np.einsum("ngc...,gcm->ngm...", x, weights[at])
    before = [(0, 0)] * 3 + [(max(-a.begin, 0), 0) for a in axes]
    kept: Any = tuple(slice(max(a.begin, 0), max(a.begin, 0) + a.size) for a in axes)
    y = np.pad(total, before)[(..., *kept)]
    y = y.reshape(n, group * w.shape[1], *y.shape[3:])
    if bias is not None:
        y = y + wide(bias).reshape(-1, *(1,) * len(sizes))
    return (rounded(y, dtype_of(given)),)


def _lower(lowering: Lowering) -> None:
    """A convolution of x with zeros between its elements, the kernel turned round."""
    node, x, w = lowering.node, lowering.input(0), lowering.input(1)
    if not x.dtype.is_float:
        raise NotLowered(f"a transposed convolution of {x.dtype}")
    group, kernel = integer(node, "group", 1), w.static_shape[2:]
    (n, channels, *sizes), frame = x.static_shape, frame_of(node, kernel)
    axes, rank = _axes(node, sizes, frame), len(kernel)
    begins = [r - 1 - a.begin for r, a in zip(frame.reach, axes, strict=True)]
    spread = [s * (m - 1) + 1 for s, m in zip(frame.strides, sizes, strict=True)]
    ends = [a.size - 1 + r - b - m
            for a, r, b, m in zip(axes, frame.reach, begins, spread, strict=True)]  # fmt: skip
    if min(*begins, *ends) < 0:
        raise NotLowered("a transposed convolution that crops more than its kernel reaches")
    stuffed = lowering.temporary((n, channels, *spread), x.dtype)
    lowering.call("fill", (), stuffed, value=0)
    steps = row_major(stuffed.static_shape)
    out_steps = tuple(s * k for s, k in zip(steps, (1, 1, *frame.strides), strict=True))
    copy(lowering, x, stuffed, x.static_shape, Walk(row_major(x.static_shape)), Walk(out_steps))
    each, filters = channels // group, w.static_shape[1]
    turned = lowering.temporary((group * filters, each, *kernel), w.dtype)
    tap_steps = row_major(kernel)
    taps = math.prod(kernel)
    walked = (group, filters, each, *kernel)
    source = (each * filters * taps, taps, filters * taps, *(-s for s in tap_steps))
    copy(lowering, w, turned, walked, Walk(source, taps - 1), Walk(row_major(walked)))
    lowering.call(
        "conv",
        (stuffed, turned, lowering.input(2) if lowering.has_input(2) else None),
        lowering.output,
        strides=(1,) * rank,
        pads=(*begins, *ends),
        dilations=frame.dilations,
        group=group,
        epilogue=None,
    )


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    """Two for each multiply-add: every input element meets every tap of its filters."""
    x, w = required(node, inputs, 0).shape or (), required(node, inputs, 1).shape or ()
    return 2 * math.prod(d for d in (*x, *w[1:]) if isinstance(d, int))


register(
    "ConvTranspose",
    Operator(since=1, infer=_infer, reference=_reference, lower=_lower, flops=_flops),
)
