"""Gather, GatherElements and GatherND: picked by index; negative ones count from the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer
from rekindle.graph.ops._shapes import normalize_axis, required

NAMES = ("Gather", "GatherElements", "GatherND")


def _whole(node: Node, indices: Operand) -> Operand:
    if indices.dtype.value not in ("int32", "int64"):
        raise ModelError(f"node {node}: its indices are {indices.dtype}, expected int32 or int64")
    return indices


def _gather_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, indices = required(node, inputs, 0), _whole(node, required(node, inputs, 1))
    if x.shape is None or indices.shape is None:
        return (TensorType(x.dtype, None),)
    axis = normalize_axis(node, integer(node, "axis", 0), len(x.shape))
    return (TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])),)


def _gather(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, indices = required(node, inputs, 0), required(node, inputs, 1)
    axis = normalize_axis(node, integer(node, "axis", 0), x.ndim)
    return (np.asarray(x.take(indices, axis=axis)),)


def _gather_lower(lowering: Lowering) -> None:
    x, indices = lowering.input(0), lowering.input(1)
    axis = normalize_axis(lowering.node, integer(lowering.node, "axis", 0), len(x.static_shape))
    lowering.call("gather", (x, indices), lowering.output, axis=axis)


def _elements_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, indices = required(node, inputs, 0), _whole(node, required(node, inputs, 1))
    return (TensorType(x.dtype, indices.shape),)


def _elements(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, indices = required(node, inputs, 0), required(node, inputs, 1)
    axis = normalize_axis(node, integer(node, "axis", 0), x.ndim)
    whole = np.where(indices < 0, indices + x.shape[axis], indices)
    covered = tuple(slice(None if i == axis else n) for i, n in enumerate(indices.shape))
    return (np.take_along_axis(x[covered], whole.astype(np.int64), axis=axis),)


def _nd_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, indices = required(node, inputs, 0), _whole(node, required(node, inputs, 1))
    batch = integer(node, "batch_dims", 0)
    if x.shape is None or not indices.shape or not isinstance(indices.shape[-1], int):
        return (TensorType(x.dtype, None),)
    picked = indices.shape[-1]
    if batch + picked > len(x.shape) or batch >= len(indices.shape) or batch < 0:
        raise ModelError(
            f"node {node}: indices {list(indices.shape)} with batch_dims {batch} do not fit "
            f"{list(x.shape)}"
        )
    return (TensorType(x.dtype, (*indices.shape[:-1], *x.shape[batch + picked :])),)


def _nd(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, indices = required(node, inputs, 0), required(node, inputs, 1)
    batch = integer(node, "batch_dims", 0)
    shape = indices.shape[:-1] + x.shape[batch + indices.shape[-1] :]
    flat = x.reshape(-1, *x.shape[batch:])
    picks = indices.reshape(len(flat), -1, indices.shape[-1])
    rows = [image[tuple(pick.T)] for image, pick in zip(flat, picks, strict=True)]
    return (np.stack(rows).reshape(shape),)


def _elements_lower(lowering: Lowering) -> None:
    x, indices = lowering.input(0), lowering.input(1)
    axis = normalize_axis(lowering.node, integer(lowering.node, "axis", 0), len(x.static_shape))
    lowering.call("gather_elements", (x, indices), lowering.output, axis=axis)


def _nd_lower(lowering: Lowering) -> None:
    batch = integer(lowering.node, "batch_dims", 0)
    inputs = (lowering.input(0), lowering.input(1))
    lowering.call("gather_nd", inputs, lowering.output, batch=batch)


register("Gather", Operator(since=1, infer=_gather_infer, reference=_gather, lower=_gather_lower))
register(
    "GatherElements",
    Operator(since=11, infer=_elements_infer, reference=_elements, lower=_elements_lower),
)
register("GatherND", Operator(since=11, infer=_nd_infer, reference=_nd, lower=_nd_lower))
