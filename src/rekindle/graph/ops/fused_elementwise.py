"""rekindle::Elementwise: any expression over its inputs, written by the fusion passes.

Attributes: `expr` (an Expr; Arg(i) is the i-th input) and `dtype` (the DType of its result).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.expr import Expr, evaluate
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import dtype
from rekindle.graph.ops._elementwise import rounded
from rekindle.graph.ops._shapes import broadcast, required

NAMES = ("rekindle::Elementwise",)


def _expression(node: Node) -> Expr:
    expr = node.attr("expr")
    if not isinstance(expr, Expr):
        raise ModelError(f"node {node}: attribute expr is {expr!r}, expected an expression")
    return expr


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    operands = [required(node, inputs, i) for i in range(len(inputs))]
    return (TensorType(dtype(node, "dtype"), broadcast(node, *(o.shape for o in operands))),)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    arrays = [_computed(required(node, inputs, i)) for i in range(len(inputs))]
    return (rounded(evaluate(_expression(node), arrays), dtype(node, "dtype")),)


def _computed(x: Array) -> Array:
    """16-bit floats are stored so; arithmetic on them is float32."""
    return x.astype(np.float32) if dtype_of(x) in (DType.FLOAT16, DType.BFLOAT16) else x


def _expr(node: Node, *args: Expr) -> Expr:
    return _expression(node)


register(
    "rekindle::Elementwise",
    Operator(since=1, infer=_infer, reference=_reference, expr=_expr, layouts="any"),
)
