"""ScatterElements (and Scatter), ScatterND, TensorScatter: written by index.

TensorScatter runs on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rekindle._errors import ModelError
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer, text
from rekindle.graph.ops._shapes import normalize_axis, optional, required, same_dtype

NAMES = ("Scatter", "ScatterElements", "ScatterND", "TensorScatter")

_REDUCTIONS = ("none", "add", "mul", "max", "min")
_AT: dict[str, Callable[[Array, Any, Array], None]] = {
    "add": np.add.at,
    "mul": np.multiply.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, indices, updates = (required(node, inputs, i) for i in range(3))
    if indices.dtype.value not in ("int32", "int64"):
        raise ModelError(f"node {node}: its indices are {indices.dtype}, expected int32 or int64")
    return (TensorType(same_dtype(node, (x, updates)), x.shape),)


def _write(node: Node, x: Array, places: tuple[Array, ...], updates: Array) -> Array:
    """`x` with `updates` at `places`, one array of indices for each leading axis."""
    y = x.copy()
    whole = []
    for axis, index in enumerate(places):
        size = x.shape[axis]
        if index.size and not -size <= index.min() <= index.max() < size:
            raise ModelError(f"node {node}: an index is out of [-{size}, {size}) of axis {axis}")
        whole.append(np.where(index < 0, index + size, index))
    reduction = text(node, "reduction", "none", choices=_REDUCTIONS)
    if reduction == "none":
        y[tuple(whole)] = updates
    else:
        _AT[reduction](y, tuple(whole), updates)
    return y


def _elements(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, indices, updates = (required(node, inputs, i) for i in range(3))
    axis = normalize_axis(node, integer(node, "axis", 0), x.ndim)
    places: list[Array] = list(np.indices(indices.shape))
    places[axis] = indices
    return (_write(node, x, tuple(places), updates),)


def _nd(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, indices, updates = (required(node, inputs, i) for i in range(3))
    return (_write(node, x, tuple(np.moveaxis(indices, -1, 0)), updates),)


def _elements_lower(lowering: Lowering) -> None:
    node, x = lowering.node, lowering.input(0)
    axis = normalize_axis(node, integer(node, "axis", 0), len(x.static_shape))
    reduction = text(node, "reduction", "none", choices=_REDUCTIONS)
    inputs = [lowering.input(i) for i in range(3)]
    lowering.call("scatter_elements", inputs, lowering.output, axis=axis, reduction=reduction)


def _nd_lower(lowering: Lowering) -> None:
    reduction = text(lowering.node, "reduction", "none", choices=_REDUCTIONS)
    inputs = [lowering.input(i) for i in range(3)]
    lowering.call("scatter_nd", inputs, lowering.output, reduction=reduction)


def _tensor_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    cache, update = required(node, inputs, 0), required(node, inputs, 1)
    return (TensorType(same_dtype(node, (cache, update)), cache.shape),)


def _tensor(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """The update lies along `axis` from each batch row's own start."""
    cache, update, starts = (
        required(node, inputs, 0),
        required(node, inputs, 1),
        optional(inputs, 2),
    )
    axis = normalize_axis(node, integer(node, "axis", -2), cache.ndim)
    circular = text(node, "mode", "linear", choices=("linear", "circular")) == "circular"
    y = cache.copy()
    for row in range(cache.shape[0]):
        start = 0 if starts is None else int(starts.reshape(-1)[row])
        places = start + np.arange(update.shape[axis])
        if circular:
            places = places % cache.shape[axis]
        np.moveaxis(y[row], axis - 1, 0)[places] = np.moveaxis(update[row], axis - 1, 0)
    return (y,)


register("Scatter", Operator(since=9, infer=_infer, reference=_elements, lower=_elements_lower))
register(
    "ScatterElements",
    Operator(since=11, infer=_infer, reference=_elements, lower=_elements_lower),
)
register("ScatterND", Operator(since=11, infer=_infer, reference=_nd, lower=_nd_lower))
register("TensorScatter", Operator(since=24, infer=_tensor_infer, reference=_tensor))
