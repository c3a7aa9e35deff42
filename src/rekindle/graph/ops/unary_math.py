"""Mathematical functions of one input, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rekindle._types import DType
from rekindle.graph.expr import Expr, call
from rekindle.graph.ir import Array, Node
from rekindle.graph.ops import register
from rekindle.graph.ops._attributes import flag
from rekindle.graph.ops._elementwise import elementwise

NAMES = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp",
    "Floor", "IsInf", "IsNaN", "Log", "Neg", "Not", "Reciprocal", "Round", "Sign", "Sin", "Sinh",
    "Sqrt", "Tan", "Tanh",
)  # fmt: skip

_erf = np.vectorize(math.erf, otypes=[np.float64])

_FUNCTIONS: dict[str, tuple[int, Callable[..., Any], str]] = {
    "Abs": (6, np.abs, "abs"),
    "Acos": (7, np.arccos, "acos"),
    "Acosh": (9, np.arccosh, "acosh"),
    "Asin": (7, np.arcsin, "asin"),
    "Asinh": (9, np.arcsinh, "asinh"),
    "Atan": (7, np.arctan, "atan"),
    "Atanh": (9, np.arctanh, "atanh"),
    "Ceil": (6, np.ceil, "ceil"),
    "Cos": (7, np.cos, "cos"),
    "Cosh": (9, np.cosh, "cosh"),
    "Erf": (9, _erf, "erf"),
    "Exp": (6, np.exp, "exp"),
    "Floor": (6, np.floor, "floor"),
    "Log": (6, np.log, "log"),
    "Neg": (6, np.negative, "neg"),
    "Reciprocal": (6, np.reciprocal, "recip"),
    "Round": (11, np.rint, "round"),
    "Sign": (9, np.sign, "sign"),
    "Sin": (7, np.sin, "sin"),
    "Sinh": (9, np.sinh, "sinh"),
    "Sqrt": (6, np.sqrt, "sqrt"),
    "Tan": (7, np.tan, "tan"),
    "Tanh": (6, np.tanh, "tanh"),
}
"""Operator → first version, NumPy's function, the primitive of `expr`."""


def _register(name: str, since: int, function: Callable[..., Any], primitive: str) -> None:
    def compute(node: Node, x: Array) -> Array:
        return np.asarray(function(x))

    def expr(node: Node, x: Expr) -> Expr:
        return call(primitive, x)

    register(name, elementwise(compute, expr, since=since, arity=1))


for _name, (_since, _function, _primitive) in _FUNCTIONS.items():
    _register(_name, _since, _function, _primitive)


def _not(node: Node, x: Array) -> Array:
    return ~x


def _is_nan(node: Node, x: Array) -> Array:
    return np.isnan(x)


def _is_inf(node: Node, x: Array) -> Array:
    negative, positive = flag(node, "detect_negative", True), flag(node, "detect_positive", True)
    return (negative & np.isneginf(x)) | (positive & np.isposinf(x))


def _is_inf_expr(node: Node, x: Expr) -> Expr:
    negative, positive = flag(node, "detect_negative", True), flag(node, "detect_positive", True)
    found = call("isinf", x)
    if negative and positive:
        return found
    if negative:
        return call("and", found, x < 0)
    return call("and", found, x > 0 if positive else call("lt", x, x))


register(
    "Not",
    elementwise(
        _not, lambda _, x: call("not", x), since=1, arity=1, takes=DType.BOOL, gives=DType.BOOL
    ),
)
register(
    "IsNaN",
    elementwise(_is_nan, lambda _, x: call("isnan", x), since=9, arity=1, gives=DType.BOOL),
)
register("IsInf", elementwise(_is_inf, _is_inf_expr, since=10, arity=1, gives=DType.BOOL))
