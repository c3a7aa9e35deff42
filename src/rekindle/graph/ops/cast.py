"""Cast and CastLike: conversion between element types."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.graph.expr import Arg, Cast, Expr
from rekindle.graph.ir import Array, Node, dtype_of, numpy_dtype
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import dtype
from rekindle.graph.ops._shapes import required

NAMES = ("Cast", "CastLike")


def _converted(x: Array, to: DType) -> Array:
    if to is DType.STRING:
        return np.array([_spelled(v) for v in x.reshape(-1)], dtype=object).reshape(x.shape)
    if dtype_of(x) is DType.STRING:
        x = x.astype(np.float64)
    return x.astype(numpy_dtype(to))


def _spelled(value: object) -> str:
    """A number as ONNX writes it: the shortest text that reads back as the same number."""
    return str(value)


def _cast_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    return (TensorType(dtype(node, "to"), required(node, inputs, 0).shape),)


def _cast(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    return (_converted(required(node, inputs, 0), dtype(node, "to")),)


def _cast_expr(node: Node, x: Expr) -> Expr:
    return Cast(dtype(node, "to"), x)


def _like_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    return (TensorType(required(node, inputs, 1).dtype, required(node, inputs, 0).shape),)


def _like(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    return (_converted(required(node, inputs, 0), dtype_of(required(node, inputs, 1))),)


def _like_lower(lowering: Lowering) -> None:
    out = lowering.output
    lowering.call("elementwise", (lowering.input(0),), out, expr=Cast(out.dtype, Arg(0)))


register(
    "Cast",
    Operator(since=6, infer=_cast_infer, reference=_cast, expr=_cast_expr, layouts="any"),
)
register(
    "CastLike",
    Operator(since=15, infer=_like_infer, reference=_like, lower=_like_lower, layouts="any"),
)
