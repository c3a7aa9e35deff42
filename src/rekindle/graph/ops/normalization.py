"""Layer, instance and group normalization: zero mean, unit variance, then scale and bias.

Ba et al. 2016 "Layer Normalization"; Ulyanov et al. 2016 "Instance Normalization"; Wu and He 2018
"Group Normalization". Each is a standardization over the last axes of some view of the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType, Shape
from rekindle.graph.expr import Arg, Cast, Expr, call
from rekindle.graph.ir import Array, Node, Value, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import dtype, integer, number
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._rows import lower_rows
from rekindle.graph.ops._shapes import (
    broadcast,
    known_rank,
    normalize_axis,
    numel,
    optional,
    required,
    same_type,
)

NAMES = ("GroupNormalization", "InstanceNormalization", "LayerNormalization")

_FLOPS_EACH = 8
"""Mean, difference, square and its sum, quotient, scale, bias: about eight an element."""


def _epsilon(node: Node) -> float:
    return number(node, "epsilon", 1e-5)


def _standardized(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    mean, variance = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    return np.asarray((x - mean) / np.sqrt(variance + epsilon))


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    return _FLOPS_EACH * numel(outputs[0].shape)


# --- the lowering they share -------------------------------------------------------------------


def _lifted(index: int, value: Value, working: DType) -> Expr:
    return Arg(index) if value.dtype is working else Cast(working, Arg(index))


def _lower_standardized(
    lowering: Lowering, x: Value, first: int, affine: Sequence[Value], out: Value
) -> tuple[Value, Value]:
    """Standardize x over its axes from `first` on, times affine[0], plus affine[1], into out.

    Returns the means and the sums of squared differences from them, in x's shape with 1 for
    those axes. All values have one rank; half precision is computed in float32.
    """
    shape = x.static_shape
    axes, kept = tuple(range(first, len(shape))), shape[:first] + (1,) * (len(shape) - first)
    working = DType.FLOAT64 if x.dtype is DType.FLOAT64 else DType.FLOAT32
    if x.dtype is not working:
        widened = lowering.temporary(shape, working)
        x = lowering.call("elementwise", (x,), widened, expr=Cast(working, Arg(0)))
    mean = lowering.temporary(kept, working)
    lowering.call("reduce", (x,), mean, kind="mean", axes=axes)
    centred = lowering.temporary(shape, working)
    lowering.call("elementwise", (x, mean), centred, expr=Arg(0) - Arg(1))
    squares = lowering.temporary(kept, working)
    lowering.call("reduce", (centred,), squares, kind="sum_square", axes=axes)
    y = Arg(0) / _deviation(Arg(1), lowering.node, math.prod(shape[first:]))
    for index, (value, join) in enumerate(zip(affine, ("mul", "add"), strict=False), 2):
        y = call(join, y, _lifted(index, value, working))
    if out.dtype is not working:
        y = Cast(out.dtype, y)
    lowering.call("elementwise", (centred, squares, *affine), out, expr=y)
    return mean, squares


def _deviation(squares: Expr, node: Node, count: int) -> Expr:
    return call("sqrt", squares * (1 / count) + _epsilon(node))


# --- LayerNormalization ------------------------------------------------------------------------


def _layer_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, scale, bias = required(node, inputs, 0), required(node, inputs, 1), optional(inputs, 2)
    statistics: Shape | None = None
    if x.shape is not None:
        axis = normalize_axis(node, integer(node, "axis", -1), len(x.shape))
        statistics = x.shape[:axis] + (1,) * (len(x.shape) - axis)
        broadcast(node, x.shape, scale.shape, () if bias is None else bias.shape)
    kept = TensorType(dtype(node, "stash_type", DType.FLOAT32), statistics)
    return (TensorType(x.dtype, x.shape), kept, kept)


def _layer(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    given, bias = required(node, inputs, 0), optional(inputs, 2)
    x, stash = wide(given), dtype(node, "stash_type", DType.FLOAT32)
    axes = tuple(range(normalize_axis(node, integer(node, "axis", -1), x.ndim), x.ndim))
    y = _standardized(x, axes, _epsilon(node)) * wide(required(node, inputs, 1))
    if bias is not None:
        y = y + wide(bias)
    inverse = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + _epsilon(node))
    mean = x.mean(axis=axes, keepdims=True)
    return rounded(y, dtype_of(given)), rounded(mean, stash), rounded(inverse, stash)


def _layer_lower(lowering: Lowering) -> None:
    node, x = lowering.node, lowering.input(0)
    first = normalize_axis(node, integer(node, "axis", -1), len(x.static_shape))
    affine = [lowering.input(i) for i in (1, 2) if lowering.has_input(i)]
    _, *statistics = (*lowering.outputs(), None, None)
    mean_out, inverse_out = statistics[:2]
    plain = all(v.static_shape == x.static_shape[first:] for v in affine)
    length = math.prod(x.static_shape[first:])
    alone = mean_out is None and inverse_out is None
    if plain and alone and lower_rows(lowering, x, length, affine, (1, 0, 1)):
        return
    mean, squares = _lower_standardized(lowering, x, first, affine, lowering.output)
    if mean_out is not None:
        lowering.call("elementwise", (mean,), mean_out, expr=_lifted(0, mean, mean_out.dtype))
    if inverse_out is not None:
        inverse: Expr = call("recip", _deviation(Arg(0), node, length))
        if squares.dtype is not inverse_out.dtype:
            inverse = Cast(inverse_out.dtype, inverse)
        lowering.call("elementwise", (squares,), inverse_out, expr=inverse)


# --- InstanceNormalization, GroupNormalization -------------------------------------------------


def _instance_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    known_rank(node, required(node, inputs, 0), at_least=3)
    return same_type(node, inputs)


def _instance(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    given = required(node, inputs, 0)
    x, scale, bias = (wide(required(node, inputs, i)) for i in range(3))
    along = (-1, *(1,) * (x.ndim - 2))
    y = _standardized(x, tuple(range(2, x.ndim)), _epsilon(node))
    return (rounded(y * scale.reshape(along) + bias.reshape(along), dtype_of(given)),)


def _instance_lower(lowering: Lowering) -> None:
    x = lowering.input(0)
    channels, *spatial = x.static_shape[1:]
    length = math.prod(spatial)
    affine = [lowering.input(i) for i in (1, 2)]
    if lower_rows(lowering, x, length, affine, (channels, 1, length)):
        return
    along = (1, channels, *(1,) * len(spatial))
    affine = [lowering.view(v, along) for v in affine]
    _lower_standardized(lowering, x, 2, affine, lowering.output)


def _groups(node: Node, channels: int) -> int:
    groups = integer(node, "num_groups")
    if groups < 1 or channels % groups:
        raise ModelError(f"node {node}: {channels} channels do not split into {groups} groups")
    return groups


def _group_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    known_rank(node, x, at_least=2)
    if x.shape is not None and isinstance(x.shape[1], int):
        _groups(node, x.shape[1])
    return same_type(node, inputs)


def _group(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Scale and bias have one value a group until opset 20, one a channel since."""
    given = required(node, inputs, 0)
    x, scale, bias = (wide(required(node, inputs, i)) for i in range(3))
    groups = _groups(node, x.shape[1])
    y = _standardized(x.reshape(x.shape[0], groups, -1), (2,), _epsilon(node))
    y = y.reshape(x.shape[0], groups, x.shape[1] // groups, -1)
    along = (1, groups, scale.size // groups, 1)
    y = y * scale.reshape(along) + bias.reshape(along)
    return (rounded(y.reshape(x.shape), dtype_of(given)),)


def _group_lower(lowering: Lowering) -> None:
    x = lowering.input(0)
    batch, channels, *spatial = x.static_shape
    groups = _groups(lowering.node, channels)
    shape = (batch, groups, channels // groups, math.prod(spatial))
    affine = [lowering.input(i) for i in (1, 2)]
    each = math.prod(affine[0].static_shape) // groups
    length = math.prod(shape[2:])
    layout = (groups, each, length // each)
    if lower_rows(lowering, x, length, affine, layout):
        return
    affine = [lowering.view(v, (1, groups, each, 1)) for v in affine]
    y = lowering.temporary(shape, x.dtype)
    _lower_standardized(lowering, lowering.view(x, shape), 2, affine, y)
    lowering.call("view", (y,), lowering.output)


register(
    "LayerNormalization",
    # Part of ONNX since opset 17; ONNX Runtime's fusions write it into older models.
    Operator(since=1, infer=_layer_infer, reference=_layer, lower=_layer_lower, flops=_flops),
)
register(
    "InstanceNormalization",
    Operator(
        since=6, infer=_instance_infer, reference=_instance, lower=_instance_lower, flops=_flops
    ),
)
register(
    "GroupNormalization",
    Operator(since=18, infer=_group_infer, reference=_group, lower=_group_lower, flops=_flops),
)
