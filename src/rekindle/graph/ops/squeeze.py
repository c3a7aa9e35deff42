"""Squeeze and Unsqueeze: axes of size 1 leave or come; `axes` became an input in opset 13."""

from __future__ import annotations

from collections.abc import Sequence

from rekindle._errors import ModelError
from rekindle._types import Shape
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._axes import AxesSource
from rekindle.graph.ops._shapes import (
    length,
    normalize_axes,
    required,
    unknown_shape,
)

NAMES = ("Squeeze", "Unsqueeze")


def _squeezed(node: Node, shape: Shape, axes: tuple[int, ...] | None) -> Shape | None:
    """Without axes every 1 leaves; None where a symbolic dimension may be one."""
    if axes is None:
        if any(isinstance(d, str) for d in shape):
            return None
        return tuple(d for d in shape if d != 1)
    gone = normalize_axes(node, axes, len(shape))
    for axis in gone:
        if isinstance(shape[axis], int) and shape[axis] != 1:
            raise ModelError(f"node {node}: axis {axis} of {list(shape)} is not 1")
    return tuple(d for i, d in enumerate(shape) if i not in gone)


def _unsqueezed(node: Node, shape: Shape, axes: tuple[int, ...] | None) -> Shape:
    if axes is None:
        raise ModelError(f"node {node} lacks its axes")
    rank = len(shape) + len(axes)
    places, rest = normalize_axes(node, axes, rank), iter(shape)
    return tuple(1 if i in places else next(rest) for i in range(rank))


def _squeeze(source: AxesSource, since: int) -> Operator:
    def infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
        x, given = required(node, inputs, 0), source.operand(inputs)
        if x.shape is None:
            return (TensorType(x.dtype, None),)
        if given is not None and given.constant is None:
            count = length(given)
            known = count is not None and count <= len(x.shape)
            shape = unknown_shape(node, len(x.shape) - (count or 0)) if known else None
            return (TensorType(x.dtype, shape),)
        axes = source.attribute_or(node, given.constant if given else None)
        return (TensorType(x.dtype, _squeezed(node, x.shape, axes)),)

    def reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x, axes = required(node, inputs, 0), source.from_arrays(node, inputs)
        gone = None if axes is None else normalize_axes(node, axes, x.ndim)
        return (x.squeeze(gone),)

    return Operator(since=since, infer=infer, reference=reference, lower=_lower)


def _unsqueeze(source: AxesSource, since: int) -> Operator:
    def infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
        x, given = required(node, inputs, 0), source.operand(inputs)
        if x.shape is None:
            return (TensorType(x.dtype, None),)
        if given is not None and given.constant is None:
            count = length(given)
            shape = None if count is None else unknown_shape(node, len(x.shape) + count)
            return (TensorType(x.dtype, shape),)
        axes = source.attribute_or(node, given.constant if given else None)
        return (TensorType(x.dtype, _unsqueezed(node, x.shape, axes)),)

    def reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = required(node, inputs, 0)
        shape = _unsqueezed(node, x.shape, source.from_arrays(node, inputs))
        return (x.reshape([d for d in shape if isinstance(d, int)]),)

    return Operator(since=since, infer=infer, reference=reference, lower=_lower)


def _lower(lowering: Lowering) -> None:
    lowering.call("view", (lowering.input(0),), lowering.output)


register("Squeeze", _squeeze(AxesSource(), 1), _squeeze(AxesSource(index=1), 13))
register("Unsqueeze", _unsqueeze(AxesSource(), 1), _unsqueeze(AxesSource(index=1), 13))
