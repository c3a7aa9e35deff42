"""Constant (the loader makes initializers of most), ConstantOfShape and Range."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import (
    length,
    required,
    same_dtype,
    unknown_dim,
    unknown_shape,
    whole_numbers,
)

NAMES = ("Constant", "ConstantOfShape", "Range")

_FORMS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_string": object,
    "value_strings": object,
}


def _value(node: Node) -> Array:
    tensor = node.attr("value")
    if tensor is not None:
        return np.asarray(tensor)
    for key, dtype in _FORMS.items():
        if key in node.attrs:
            return np.asarray(node.attrs[key], dtype)
    raise ModelError(f"node {node} holds none of value, {', '.join(_FORMS)}")


def _constant_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    value = _value(node)
    return (TensorType(dtype_of(value), value.shape, value),)


def _constant(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    return (_value(node),)


def _filler(node: Node) -> Array:
    """One element; float32 zero by default."""
    value = np.asarray(node.attr("value", np.zeros(1, np.float32)))
    if value.size != 1:
        raise ModelError(f"node {node}: its value has shape {value.shape}, expected one element")
    return value.reshape(())


def _of_shape_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    target, dtype = required(node, inputs, 0), dtype_of(_filler(node))
    wanted = whole_numbers(node, target.constant)
    if wanted is None:
        rank = length(target)
        return (TensorType(dtype, None if rank is None else unknown_shape(node, rank)),)
    if min(wanted, default=0) < 0:
        raise ModelError(f"node {node}: cannot make a tensor of shape {list(wanted)}")
    return (TensorType(dtype, wanted),)


def _of_shape(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    return (np.full(whole_numbers(node, required(node, inputs, 0)) or (), _filler(node)),)


def _of_shape_lower(lowering: Lowering) -> None:
    lowering.call("fill", (), lowering.output, value=_filler(lowering.node).item())


def _count(start: float, limit: float, delta: float) -> int:
    return max(math.ceil((limit - start) / delta), 0)


def _range_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    bounds = [required(node, inputs, i) for i in range(3)]
    dtype = same_dtype(node, bounds)
    known = [b.constant for b in bounds if b.constant is not None]
    if len(known) < len(bounds):
        return (TensorType(dtype, (unknown_dim(node, 0),)),)
    return (TensorType(dtype, (_count(*(wide(k).item() for k in known)),)),)


def _range(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Computes start + i * delta, floats in float64 (opset 27 wants float32 for halves)."""
    bounds = [required(node, inputs, i) for i in range(3)]
    start, limit, delta = (wide(b).item() for b in bounds)
    steps = np.arange(_count(start, limit, delta))
    return (rounded(start + steps * delta, dtype_of(bounds[0])),)


register("Constant", Operator(since=1, infer=_constant_infer, reference=_constant))
register(
    "ConstantOfShape",
    Operator(since=9, infer=_of_shape_infer, reference=_of_shape, lower=_of_shape_lower),
)
register("Range", Operator(since=11, infer=_range_infer, reference=_range))
