"""Clip: min(max(x, low), high); the limits are attributes until opset 10, then inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle.graph.expr import Expr, maximum, minimum
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import number
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import optional, required, same_dtype, same_type

_FLOAT_MAX = float(np.finfo(np.float32).max)
"""Opset 6's defaults: the largest and the smallest float, where clipping changes only infinity."""


def _limits(node: Node) -> tuple[float, float]:
    return number(node, "min", -_FLOAT_MAX), number(node, "max", _FLOAT_MAX)


def _attributes_reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = required(node, inputs, 0)
    low, high = _limits(node)
    return (rounded(np.minimum(np.maximum(wide(x), low), high), dtype_of(x)),)


def _attributes_expr(node: Node, x: Expr) -> Expr:
    low, high = _limits(node)
    return minimum(maximum(x, low), high)


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    same_dtype(node, inputs)
    for limit in inputs[1:]:
        if limit is not None and limit.shape not in (None, (), (1,)):
            raise ModelError(f"node {node}: a limit has shape {limit.shape}, expected a scalar")
    return same_type(node, inputs)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = y = required(node, inputs, 0)
    low, high = optional(inputs, 1), optional(inputs, 2)
    if low is not None:
        y = np.maximum(y, low.reshape(()))
    if high is not None:
        y = np.minimum(y, high.reshape(()))
    return (rounded(y, dtype_of(x)),)


def _expr(node: Node, x: Expr, *limits: Expr) -> Expr:
    given = [bool(name) for name in node.inputs[1:]] + [False, False]
    if given[0]:
        x = maximum(x, limits[0])
    return minimum(x, limits[1]) if given[1] else x


register(
    "Clip",
    Operator(
        since=6,
        infer=same_type,
        reference=_attributes_reference,
        expr=_attributes_expr,
        layouts="any",
    ),
    Operator(since=11, infer=_infer, reference=_reference, expr=_expr, layouts="any"),
)
