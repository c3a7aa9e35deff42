"""Arithmetic, comparison and logic of two inputs, broadcast as NumPy does (opset 7 on)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rekindle._types import DType
from rekindle.graph.expr import Expr, call
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag
from rekindle.graph.ops._elementwise import elementwise, rounded, wide
from rekindle.graph.ops._shapes import broadcast, required

NAMES = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mod", "Mul",
    "Or", "Pow", "Sub", "Xor",
)  # fmt: skip


def _quotient(a: Array, b: Array) -> Array:
    """Division of integers truncates towards zero; by zero, which ONNX leaves open, it gives 0."""
    if a.dtype.kind in "iu":
        safe = np.where(b == 0, b.dtype.type(1), b)
        return np.where(b == 0, a.dtype.type(0), (a - np.fmod(a, safe)) // safe)
    return np.asarray(a / b)


_ARITHMETIC: dict[str, tuple[Callable[..., Any], str]] = {
    "Add": (np.add, "add"),
    "Div": (_quotient, "div"),
    "Mul": (np.multiply, "mul"),
    "Sub": (np.subtract, "sub"),
}
_COMPARISON: dict[str, tuple[int, Callable[..., Any], Callable[[Expr, Expr], Expr]]] = {
    "Equal": (7, np.equal, lambda a, b: call("eq", a, b)),
    "Greater": (7, np.greater, lambda a, b: a > b),
    "GreaterOrEqual": (12, np.greater_equal, lambda a, b: a >= b),
    "Less": (7, np.less, lambda a, b: a < b),
    "LessOrEqual": (12, np.less_equal, lambda a, b: a <= b),
}
_LOGIC: dict[str, tuple[Callable[..., Any], str]] = {
    "And": (np.logical_and, "and"),
    "Or": (np.logical_or, "or"),
    "Xor": (np.logical_xor, "xor"),
}


def _arithmetic(function: Callable[..., Any], primitive: str) -> Operator:
    def compute(node: Node, a: Array, b: Array) -> Array:
        return np.asarray(function(a, b))

    def expr(node: Node, a: Expr, b: Expr) -> Expr:
        return call(primitive, a, b)

    return elementwise(compute, expr, since=7, arity=2)


def _comparison(
    since: int, function: Callable[..., Any], express: Callable[[Expr, Expr], Expr]
) -> Operator:
    def compute(node: Node, a: Array, b: Array) -> Array:
        return np.asarray(function(a, b))

    def expr(node: Node, a: Expr, b: Expr) -> Expr:
        return express(a, b)

    return elementwise(compute, expr, since=since, arity=2, gives=DType.BOOL)


def _logic(function: Callable[..., Any], primitive: str) -> Operator:
    def compute(node: Node, a: Array, b: Array) -> Array:
        return np.asarray(function(a, b))

    def expr(node: Node, a: Expr, b: Expr) -> Expr:
        return call(primitive, a, b)

    return elementwise(compute, expr, since=7, arity=2, takes=DType.BOOL, gives=DType.BOOL)


def _mod(node: Node, a: Array, b: Array) -> Array:
    return np.asarray(np.fmod(a, b) if flag(node, "fmod") else np.mod(a, b))


def _mod_expr(node: Node, a: Expr, b: Expr) -> Expr:
    return call("fmod" if flag(node, "fmod") else "mod", a, b)


def _pow_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    """The exponent may have a dtype of its own (opset 12); the result has the base's."""
    base, exponent = required(node, inputs, 0), required(node, inputs, 1)
    return (TensorType(base.dtype, broadcast(node, base.shape, exponent.shape)),)


def _pow(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    base, exponent = required(node, inputs, 0), required(node, inputs, 1)
    exact = base.dtype.kind in "iu" and exponent.dtype.kind in "iu" and not np.any(exponent < 0)
    powers = np.power(base, exponent) if exact else np.power(_real(base), _real(exponent))
    return (rounded(powers, dtype_of(base)),)


def _real(x: Array) -> Array:
    return wide(x).astype(np.float64, copy=False)


for _name, _parts in _ARITHMETIC.items():
    register(_name, _arithmetic(*_parts))
for _name, _compared in _COMPARISON.items():
    register(_name, _comparison(*_compared))
for _name, _parts in _LOGIC.items():
    register(_name, _logic(*_parts))
register("Mod", elementwise(_mod, _mod_expr, since=10, arity=2))
register(
    "Pow",
    Operator(
        since=7,
        infer=_pow_infer,
        reference=_pow,
        expr=lambda _, base, exponent: call("pow", base, exponent),
        layouts="any",
    ),
)
