"""Where(condition, X, Y): X where the condition holds, else Y."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.expr import Expr, where
from rekindle.graph.ir import Array, Node
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._shapes import broadcast, required, same_dtype


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    condition, x, y = (required(node, inputs, i) for i in range(3))
    if condition.dtype is not DType.BOOL:
        raise ModelError(f"node {node}: its condition is {condition.dtype}, expected bool")
    shape = broadcast(node, condition.shape, x.shape, y.shape)
    return (TensorType(same_dtype(node, (x, y)), shape),)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    condition, x, y = (required(node, inputs, i) for i in range(3))
    return (np.where(condition, x, y),)


def _expr(node: Node, condition: Expr, x: Expr, y: Expr) -> Expr:
    return where(condition, x, y)


register("Where", Operator(since=9, infer=_infer, reference=_reference, expr=_expr, layouts="any"))
