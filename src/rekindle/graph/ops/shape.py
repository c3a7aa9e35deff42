"""Shape and Size: what a tensor's type says, as a tensor. Known as soon as the input's shape is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType, Shape
from rekindle.graph.ir import Array, Node
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer
from rekindle.graph.ops._shapes import required

NAMES = ("Shape", "Size")


def _part(node: Node, shape: Shape) -> Shape:
    """`start` and `end` (opset 15) are clamped as in Python's slices."""
    end = integer(node, "end") if node.attr("end") is not None else None
    return shape[integer(node, "start", 0) : end]


def _numbers(shape: Shape) -> Array | None:
    sizes = [d for d in shape if isinstance(d, int)]
    return np.array(sizes, np.int64) if len(sizes) == len(shape) else None


def _shape_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    shape = required(node, inputs, 0).shape
    if shape is None:
        return (TensorType(DType.INT64, (f"{node.outputs[0]}.0",)),)
    part = _part(node, shape)
    return (TensorType(DType.INT64, (len(part),), _numbers(part)),)


def _shape(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    return (np.array(_part(node, required(node, inputs, 0).shape), np.int64),)


def _size_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    shape = required(node, inputs, 0).shape
    sizes = None if shape is None else _numbers(shape)
    count = None if sizes is None else np.asarray(math.prod(sizes.tolist()), np.int64)
    return (TensorType(DType.INT64, (), count),)


def _size(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    return (np.asarray(required(node, inputs, 0).size, np.int64),)


register("Shape", Operator(since=1, infer=_shape_infer, reference=_shape))
register("Size", Operator(since=1, infer=_size_infer, reference=_size))
