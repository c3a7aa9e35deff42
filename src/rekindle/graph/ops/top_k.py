"""TopK: the k largest or smallest along an axis, and where they are; ties by the lower index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Dim, DType
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag, integer
from rekindle.graph.ops._elementwise import wide
from rekindle.graph.ops._shapes import normalize_axis, required, unknown_dim, whole_numbers

NAMES = ("TopK",)


def _typed(node: Node, x: Operand, k: int | None) -> tuple[TensorType, ...]:
    if x.shape is None:
        return (TensorType(x.dtype, None), TensorType(DType.INT64, None))
    axis = normalize_axis(node, integer(node, "axis", -1), len(x.shape))
    size = x.shape[axis]
    if k is not None and (k < 0 or (isinstance(size, int) and k > size)):
        raise ModelError(f"node {node}: the top {k} of {size} positions")
    kept: Dim = unknown_dim(node, axis) if k is None else k
    shape = (*x.shape[:axis], kept, *x.shape[axis + 1 :])
    return (TensorType(x.dtype, shape), TensorType(DType.INT64, shape))


def _attribute_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    return _typed(node, required(node, inputs, 0), integer(node, "k"))


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    counts = whole_numbers(node, required(node, inputs, 1).constant)
    return _typed(node, required(node, inputs, 0), counts[0] if counts else None)


def _top(node: Node, x: Array, k: int) -> tuple[Array, ...]:
    axis = normalize_axis(node, integer(node, "axis", -1), x.ndim)
    keys, largest = wide(x), flag(node, "largest", True)
    if keys.dtype.kind == "f" and largest:
        order = np.lexsort((-keys, ~np.isnan(keys)), axis=axis)  # NaN counts as the greatest
    else:
        order = np.argsort(~keys if largest else keys, axis=axis, kind="stable")
    order = order.take(range(k), axis=axis)
    return np.take_along_axis(x, order, axis=axis), order.astype(np.int64)


def _attribute_reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    return _top(node, required(node, inputs, 0), integer(node, "k"))


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    counts = whole_numbers(node, required(node, inputs, 1)) or (0,)
    return _top(node, required(node, inputs, 0), counts[0])


def _lower(lowering: Lowering) -> None:
    """The places, then the elements there."""
    node, x = lowering.node, lowering.input(0)
    values, places = (*lowering.outputs(), None)[:2]
    if values is None and places is None:
        return
    shape = (values or places or x).static_shape
    axis = normalize_axis(node, integer(node, "axis", -1), len(x.static_shape))
    largest = flag(node, "largest", True)
    found = places if places is not None else lowering.temporary(shape, DType.INT64)
    lowering.call("top_k", (x,), found, axis=axis, k=shape[axis], largest=largest)
    if values is not None:
        lowering.call("gather_elements", (x, found), values, axis=axis)


register(
    "TopK",
    Operator(since=1, infer=_attribute_infer, reference=_attribute_reference, lower=_lower),
    Operator(since=10, infer=_infer, reference=_reference, lower=_lower),
)
