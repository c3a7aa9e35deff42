"""Resize and Upsample: nearest, linear and cubic resampling along any axes.

Upsample (opset 7: attribute `scales`, 9: an input) and Resize 10 place positions asymmetrically;
Resize 11 has sizes, regions and the coordinate modes; 18 axes, antialias and aspect policies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Dim, Shape
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag, integers, number, text
from rekindle.graph.ops._copies import Walk, copy, row_major
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._resampling import Axis, Filter, nearest_index, weights
from rekindle.graph.ops._resizing import is_whole, lower_separable, outside
from rekindle.graph.ops._shapes import (
    normalize_axis,
    optional,
    required,
    unknown_dim,
    unknown_shape,
)

NAMES = ("Resize", "Upsample")

_COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
    "tf_half_pixel_for_nn", "tf_crop_and_resize",
)  # fmt: skip
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")

Given = tuple[Array | None, Array | None, Array | None]
"""The region, the scales and the sizes of a node."""

Read = Callable[[Node, Sequence[Array | None]], Given]


def _attribute_scales(node: Node, inputs: Sequence[Array | None]) -> Given:
    return None, np.asarray(node.attr("scales", ()), np.float64), None


def _input_scales(node: Node, inputs: Sequence[Array | None]) -> Given:
    return None, optional(inputs, 1), None


def _all_inputs(node: Node, inputs: Sequence[Array | None]) -> Given:
    """Opset 11 has empty tensors for what is absent, later opsets empty names."""
    given = [optional(inputs, i) for i in (1, 2, 3)]
    roi, scales, sizes = (a if a is not None and a.size else None for a in given)
    return roi, scales, sizes


def _filter(node: Node, *, simple: bool) -> Filter:
    mode = text(node, "mode", "nearest", choices=("nearest", "linear", "bilinear", "cubic"))
    mode = "linear" if mode == "bilinear" else mode
    if simple:
        return Filter(mode, "asymmetric", "simple")
    return Filter(
        mode,
        text(node, "coordinate_transformation_mode", "half_pixel", choices=_COORDINATES),
        text(node, "nearest_mode", "round_prefer_floor", choices=_NEAREST),
        number(node, "cubic_coeff_a", -0.75),
        flag(node, "exclude_outside"),
        flag(node, "antialias"),
    )


def _axes(node: Node, shape: Sequence[int], given: Given) -> list[Axis]:
    """One Axis for each axis of a static shape; ModelError where the inputs do not fit."""
    roi, scales, sizes = given
    rank = len(shape)
    places = [normalize_axis(node, a, rank) for a in integers(node, "axes") or range(rank)]
    chosen = sizes if sizes is not None else scales
    if chosen is None or chosen.size != len(places):
        raise ModelError(f"node {node}: needs scales or sizes, one for each of {len(places)} axes")
    resized = [Axis(size, size, 1.0) for size in shape]
    if roi is not None and roi.size == 2 * len(places):
        bounds = [float(b) for b in roi.reshape(-1)]
        for i, axis in enumerate(places):
            resized[axis] = replace(resized[axis], roi=(bounds[i], bounds[i + len(places)]))
    if sizes is None:
        for axis, scale in zip(places, (float(s) for s in chosen.reshape(-1)), strict=True):
            resized[axis] = _scaled(node, resized[axis], scale)
        return resized
    wanted = {a: int(s) for a, s in zip(places, sizes.reshape(-1), strict=True)}
    for axis, (size, scale) in _fitted(node, shape, wanted).items():
        resized[axis] = replace(resized[axis], resized=size, scale=scale)
    return resized


def _scaled(node: Node, axis: Axis, scale: float) -> Axis:
    if not scale > 0:
        raise ModelError(f"node {node}: scale {scale} must be positive")
    cropped = text(node, "coordinate_transformation_mode", "half_pixel", choices=_COORDINATES)
    begin, end = axis.roi if cropped == "tf_crop_and_resize" else (0.0, 1.0)
    return replace(axis, resized=math.floor(axis.size * (end - begin) * scale), scale=scale)


def _fitted(
    node: Node, shape: Sequence[int], wanted: dict[int, int]
) -> dict[int, tuple[int, float]]:
    """Axis → size and scale, by keep_aspect_ratio_policy."""
    policy = text(
        node,
        "keep_aspect_ratio_policy",
        "stretch",
        choices=("stretch", "not_larger", "not_smaller"),
    )
    scales = {axis: size / shape[axis] for axis, size in wanted.items()}
    if policy == "stretch":
        return {axis: (size, scales[axis]) for axis, size in wanted.items()}
    scale = (min if policy == "not_larger" else max)(scales.values())
    return {axis: (math.floor(scale * shape[axis] + 0.5), scale) for axis in wanted}


def _symbolic_shape(node: Node, shape: Shape, given: Given) -> Shape:
    """Static axes as they come out; a symbolic one stays where its scale is 1."""
    roi, scales, sizes = given
    plain = "keep_aspect_ratio_policy" not in node.attrs and roi is None
    if not plain or (scales is None and sizes is None):
        return unknown_shape(node, len(shape))
    guess = _axes(node, [d if isinstance(d, int) else 1 for d in shape], given)
    ends: list[Dim] = []
    for i, (dim, axis) in enumerate(zip(shape, guess, strict=True)):
        if isinstance(dim, int) or sizes is not None:
            ends.append(axis.resized)
        else:
            ends.append(dim if axis.scale == 1.0 else unknown_dim(node, i))
    return tuple(ends)


def _resample(node: Node, x: Array, axes: Sequence[Axis], how: Filter) -> Array:
    y = wide(x)
    for i, axis in enumerate(axes):
        if not is_whole(axis):
            y = np.moveaxis(np.tensordot(weights(axis, how), y, axes=(1, i)), 0, i)
    if how.coordinates == "tf_crop_and_resize":
        y = np.where(outside(axes), number(node, "extrapolation_value", 0.0), y)
    return np.rint(y) if x.dtype.kind in "iu" else y


def _operator(since: int, read: Read, constants: Sequence[int], *, simple: bool) -> Operator:
    """`constants`: the inputs that say how to resize."""

    def infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
        x = required(node, inputs, 0)
        _filter(node, simple=simple)
        if x.shape is None:
            return (TensorType(x.dtype, None),)
        operands = [optional(inputs, i) for i in constants]
        if any(o is not None and o.constant is None and o.shape != (0,) for o in operands):
            return (TensorType(x.dtype, unknown_shape(node, len(x.shape))),)
        given = read(node, [None, *(o.constant if o else None for o in operands)])
        sizes = [d for d in x.shape if isinstance(d, int)]
        if len(sizes) < len(x.shape):
            return (TensorType(x.dtype, _symbolic_shape(node, x.shape, given)),)
        return (TensorType(x.dtype, tuple(a.resized for a in _axes(node, sizes, given))),)

    def reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = required(node, inputs, 0)
        axes = _axes(node, x.shape, read(node, inputs))
        y = _resample(node, x, axes, _filter(node, simple=simple))
        return (rounded(y, dtype_of(x)),)

    def lower(lowering: Lowering) -> None:
        node, how = lowering.node, _filter(lowering.node, simple=simple)
        given = [None, *(lowering.constant(i) for i in constants)]
        if any(lowering.has_input(i) and given[i] is None for i in constants):
            raise NotLowered("its scales or sizes are computed at run time")
        axes = _axes(node, lowering.input(0).static_shape, read(node, given))
        plain = how.mode == "nearest" and how.coordinates != "tf_crop_and_resize"
        if not (plain and _lower_evenly(lowering, axes, how)):
            lower_separable(lowering, axes, how, number(node, "extrapolation_value", 0.0))

    return Operator(since=since, infer=infer, reference=reference, lower=lower)


def _lower_evenly(lowering: Lowering, axes: Sequence[Axis], how: Filter) -> bool:
    """A copy, where each axis repeats positions evenly or skips some evenly; else False."""
    x, out = lowering.input(0), lowering.output
    walked: list[int] = []
    steps_in: list[int] = []
    steps_out: list[int] = []
    offset = 0
    strides = zip(row_major(x.static_shape), row_major(out.static_shape), strict=True)
    for axis, (step_in, step_out) in zip(axes, strides, strict=True):
        index = nearest_index(axis, how) if axis.scale != 1.0 else np.arange(axis.size)
        repeat = max(axis.resized // axis.size, 1)
        stride = int(index[1] - index[0]) if len(index) > 1 else 1
        if repeat > 1 and np.array_equal(index, np.arange(axis.resized) // repeat):
            walked += [axis.size, repeat]
            steps_in += [step_in, 0]
            steps_out += [repeat * step_out, step_out]
        elif np.array_equal(index, index[0] + stride * np.arange(axis.resized)):
            walked.append(axis.resized)
            steps_in.append(stride * step_in)
            steps_out.append(step_out)
            offset += int(index[0]) * step_in
        else:
            return False
    copy(lowering, x, out, walked, Walk(tuple(steps_in), offset), Walk(tuple(steps_out)))
    return True


register(
    "Resize",
    _operator(10, _input_scales, (1,), simple=True),
    _operator(11, _all_inputs, (1, 2, 3), simple=False),
)
register(
    "Upsample",
    _operator(7, _attribute_scales, (), simple=True),
    _operator(9, _input_scales, (1,), simple=True),
)
