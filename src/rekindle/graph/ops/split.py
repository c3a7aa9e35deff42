"""Split along an axis: sizes from an attribute (opset 2), an input (13), or `num_outputs` (18)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Dim
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer, integers
from rekindle.graph.ops._copies import Walk, copy, row_major
from rekindle.graph.ops._shapes import (
    normalize_axis,
    optional,
    required,
    unknown_dim,
    whole_numbers,
)


def _sizes(node: Node, total: int, given: Array | None) -> tuple[int, ...]:
    """How many positions each output gets of `total`; ModelError where they do not add up."""
    count = len(node.outputs)
    sizes = whole_numbers(node, given) or integers(node, "split")
    if sizes is None:
        parts = integer(node, "num_outputs", count)
        if parts != count or ("num_outputs" not in node.attrs and total % count):
            raise ModelError(
                f"node {node}: {total} positions do not split into {parts} equal parts for "
                f"{count} outputs"
            )
        each = -(-total // count)
        sizes = tuple(max(min(each, total - each * i), 0) for i in range(count))
    if len(sizes) != count or sum(sizes) != total or min(sizes) < 0:
        raise ModelError(
            f"node {node}: split sizes {list(sizes)} for {count} outputs, the axis has {total}"
        )
    return sizes


def _axis(node: Node, rank: int) -> int:
    return normalize_axis(node, integer(node, "axis", 0), rank)


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, given = required(node, inputs, 0), optional(inputs, 1)
    count = len(node.outputs)
    if x.shape is None:
        return (TensorType(x.dtype, None),) * count
    shape, axis = x.shape, _axis(node, len(x.shape))
    total = shape[axis]
    sizes: Sequence[Dim]
    if given is not None and given.constant is None:
        sizes = [unknown_dim(node, axis, i) for i in range(count)]
    elif isinstance(total, int):
        sizes = _sizes(node, total, given.constant if given else None)
    else:
        known = whole_numbers(node, given.constant if given else None) or integers(node, "split")
        sizes = known or [f"{total}/{count}"] * count
        if len(sizes) != count:
            raise ModelError(f"node {node}: {len(sizes)} split sizes for {count} outputs")
    return tuple(TensorType(x.dtype, (*shape[:axis], s, *shape[axis + 1 :])) for s in sizes)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = required(node, inputs, 0)
    axis = _axis(node, x.ndim)
    sizes = _sizes(node, x.shape[axis], optional(inputs, 1))
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis=axis))


def _lower(lowering: Lowering) -> None:
    node, x, start = lowering.node, lowering.input(0), 0
    if lowering.has_input(1) and lowering.constant(1) is None:
        raise NotLowered("its split sizes are computed at run time")
    shape = x.static_shape
    axis, steps = _axis(node, len(shape)), row_major(shape)
    sizes = _sizes(node, shape[axis], lowering.constant(1))
    for size, out in zip(sizes, lowering.outputs(), strict=True):
        if out is not None:
            part = out.static_shape
            source = Walk(steps, start * steps[axis])
            copy(lowering, x, out, part, source, Walk(row_major(part)))
        start += size


register("Split", Operator(since=2, infer=_infer, reference=_reference, lower=_lower))
