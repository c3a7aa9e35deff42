"""Slice: bounds and axes from attributes until opset 9, from inputs (with steps) since 10."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rekindle._errors import ModelError
from rekindle._types import Dim
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integers
from rekindle.graph.ops._copies import Walk, copy, row_major
from rekindle.graph.ops._shapes import (
    normalize_axis,
    optional,
    required,
    unknown_dim,
    unknown_shape,
    whole_numbers,
)

_FAR = 2**31 - 1
"""Bounds from here on mean "to the end"; exporters write INT_MAX or INT64_MAX."""


@dataclass(frozen=True)
class _Cut:
    """One axis of a slice."""

    start: int
    end: int
    step: int

    def resolve(self, size: int) -> range:
        """The positions taken.

        Bounds are clamped as ONNX says: unlike Python's, a start before the first position
        means the first one when stepping backwards, too.
        """
        start = self.start + size if self.start < 0 else self.start
        end = self.end + size if self.end < 0 else self.end
        if self.step > 0:
            return range(min(max(start, 0), size), min(max(end, 0), size), self.step)
        return range(min(max(start, 0), size - 1), min(max(end, -1), size - 1), self.step)

    def keeps_all(self) -> bool:
        return self.start == 0 and self.end >= _FAR and self.step == 1


Lists = Sequence[tuple[int, ...] | None]


def _cuts(node: Node, rank: int, lists: Lists) -> dict[int, _Cut]:
    """Axis → cut, from starts, ends, axes, steps; ModelError where they do not fit."""
    starts, ends, axes, steps = lists
    if starts is None or ends is None:
        raise ModelError(f"node {node} lacks its starts or ends")
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise ModelError(
            f"node {node}: starts {list(starts)}, ends {list(ends)}, axes {list(axes)} and steps "
            f"{list(steps)} do not describe a slice"
        )
    places = [normalize_axis(node, axis, rank) for axis in axes]
    return {a: _Cut(*cut) for a, *cut in zip(places, starts, ends, steps, strict=True)}


def _attribute_lists(node: Node) -> Lists:
    return integers(node, "starts"), integers(node, "ends"), integers(node, "axes"), None


def _array_lists(node: Node, inputs: Sequence[Array | None]) -> Lists:
    return [whole_numbers(node, optional(inputs, i)) for i in range(1, 5)]


def _dim(node: Node, axis: int, size: Dim, cut: _Cut | None) -> Dim:
    if cut is None or cut.keeps_all():
        return size
    return len(cut.resolve(size)) if isinstance(size, int) else unknown_dim(node, axis)


def _typed(node: Node, x: Operand, lists: Lists) -> tuple[TensorType, ...]:
    if x.shape is None:
        return (TensorType(x.dtype, None),)
    cuts = _cuts(node, len(x.shape), lists)
    shape = tuple(_dim(node, i, d, cuts.get(i)) for i, d in enumerate(x.shape))
    return (TensorType(x.dtype, shape),)


def _attributes_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    return _typed(node, required(node, inputs, 0), _attribute_lists(node))


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, given = required(node, inputs, 0), [optional(inputs, i) for i in range(1, 5)]
    if any(o is not None and o.constant is None for o in given):
        return (TensorType(x.dtype, _unknown_bounds(node, x, given[2])),)
    constants = [None, *(o.constant if o else None for o in given)]
    return _typed(node, x, _array_lists(node, constants))


def _unknown_bounds(node: Node, x: Operand, axes: Operand | None) -> tuple[Dim, ...] | None:
    """Axes that are known not to be cut keep their sizes."""
    if x.shape is None:
        return None
    if axes is None or axes.constant is None:
        return unknown_shape(node, len(x.shape))
    rank = len(x.shape)
    cut = {normalize_axis(node, a, rank) for a in whole_numbers(node, axes.constant) or ()}
    return tuple(unknown_dim(node, i) if i in cut else d for i, d in enumerate(x.shape))


def _sliced(node: Node, x: Array, lists: Lists) -> tuple[Array, ...]:
    for axis, cut in _cuts(node, x.ndim, lists).items():
        x = x.take(list(cut.resolve(x.shape[axis])), axis=axis)
    return (x,)


def _attributes_reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    return _sliced(node, required(node, inputs, 0), _attribute_lists(node))


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    return _sliced(node, required(node, inputs, 0), _array_lists(node, inputs))


def _copy_cuts(lowering: Lowering, lists: Lists) -> None:
    """A strided copy; a negative step walks backwards."""
    x, out = lowering.input(0), lowering.output
    strides = list(row_major(x.static_shape))
    offset = 0
    for axis, cut in _cuts(lowering.node, len(strides), lists).items():
        taken = cut.resolve(x.static_shape[axis])
        offset += taken.start * strides[axis]
        strides[axis] *= taken.step
    shape = out.static_shape
    copy(lowering, x, out, shape, Walk(tuple(strides), offset), Walk(row_major(shape)))


def _attributes_lower(lowering: Lowering) -> None:
    _copy_cuts(lowering, _attribute_lists(lowering.node))


def _lower(lowering: Lowering) -> None:
    bounds = [lowering.constant(i) for i in range(1, 5)]
    if any(b is None and lowering.has_input(i) for i, b in enumerate(bounds, 1)):
        raise NotLowered("its bounds are computed at run time")
    _copy_cuts(lowering, _array_lists(lowering.node, [None, *bounds]))


register(
    "Slice",
    Operator(
        since=1,
        infer=_attributes_infer,
        reference=_attributes_reference,
        lower=_attributes_lower,
    ),
    Operator(since=10, infer=_infer, reference=_reference, lower=_lower),
)
