"""Concat: inputs one after the other along an axis.

Blocked images lie behind one another in whole blocks of channels: all but the last input have
full blocks (the layout pass sees to it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import ROW_MAJOR, Dim
from rekindle.graph.ir import Array, Node, Value
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer
from rekindle.graph.ops._copies import Walk, copy, row_major
from rekindle.graph.ops._shapes import merge_dims, normalize_axis, required, same_dtype


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    operands = [required(node, inputs, i) for i in range(max(len(inputs), 1))]
    dtype = same_dtype(node, operands)
    shapes = [o.shape for o in operands if o.shape is not None]
    if len(shapes) < len(operands):
        return (TensorType(dtype, None),)
    first = shapes[0]
    if any(len(s) != len(first) for s in shapes):
        raise ModelError(f"node {node} joins shapes {[list(s) for s in shapes]}, of unequal rank")
    axis = normalize_axis(node, integer(node, "axis"), len(first))
    joined: list[Dim] = list(first)
    for shape in shapes[1:]:
        for i, dim in enumerate(shape):
            if i != axis:
                joined[i] = merge_dims(node, joined[i], dim)
    joined[axis] = _sum([s[axis] for s in shapes])
    return (TensorType(dtype, tuple(joined)),)


def _sum(dims: Sequence[Dim]) -> Dim:
    number = sum(d for d in dims if isinstance(d, int))
    names = [d for d in dims if isinstance(d, str)]
    if not names:
        return number
    return "+".join([*names, str(number)] if number else names)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    arrays = [required(node, inputs, i) for i in range(len(inputs))]
    axis = normalize_axis(node, integer(node, "axis"), arrays[0].ndim)
    return (np.concatenate(arrays, axis=axis),)


def _lower(lowering: Lowering) -> None:
    out, start = _as_stored(lowering.output), 0
    axis = normalize_axis(
        lowering.node, integer(lowering.node, "axis"), len(lowering.output.static_shape)
    )
    steps = row_major(out.static_shape)
    for given in lowering.inputs:
        x = _as_stored(given) if given is not None else None
        shape = x.static_shape if x is not None else ()
        if x is not None and 0 not in shape:
            target = Walk(steps, start * steps[axis])
            copy(lowering, x, out, shape, Walk(row_major(shape)), target)
            start += shape[axis]


def _as_stored(value: Value) -> Value:
    """A blocked value as the row-major one that its memory is."""
    shape = value.layout.physical_shape(value.static_shape)
    return replace(value, shape=shape, layout=ROW_MAJOR)


register(
    "Concat",
    Operator(since=4, infer=_infer, reference=_reference, lower=_lower, layouts="spatial"),
)
