"""Elementwise expressions: what an elementwise operator computes, as plain data.

An elementwise operator says once what it does, in about twenty primitives:

    def hard_swish(x): return x * minimum(maximum(x * (1 / 6) + 0.5, 0.0), 1.0)

Passes compose such expressions (fusion is substitution), engines render them to their language,
and `evaluate` runs them in NumPy. `Arg(i)` is the i-th input of the node or kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rekindle._types import DType

Number = float | int | bool

UNARY = (
    "neg", "abs", "exp", "log", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "floor", "ceil", "round", "not", "isnan",
    "isinf", "sign", "recip",
)  # fmt: skip
BINARY = (
    "add", "sub", "mul", "div", "pow", "max", "min", "mod", "fmod", "lt", "le", "eq", "and",
    "or", "xor",
)  # fmt: skip
"""`div` on integers truncates towards zero, as ONNX's Div; `mod` has the divisor's sign (Python),
`fmod` the dividend's (C); `pow` has the base's dtype, whatever the exponent's; `max`/`min` pass
NaN through; `round` is half to even."""


@dataclass(frozen=True)
class Expr:
    """Base of the nodes; arithmetic on them builds larger ones."""

    def __add__(self, other: Expr | Number) -> Expr:
        return call("add", self, other)

    def __radd__(self, other: Number) -> Expr:
        return call("add", other, self)

    def __sub__(self, other: Expr | Number) -> Expr:
        return call("sub", self, other)

    def __rsub__(self, other: Number) -> Expr:
        return call("sub", other, self)

    def __mul__(self, other: Expr | Number) -> Expr:
        return call("mul", self, other)

    def __rmul__(self, other: Number) -> Expr:
        return call("mul", other, self)

    def __truediv__(self, other: Expr | Number) -> Expr:
        return call("div", self, other)

    def __rtruediv__(self, other: Number) -> Expr:
        return call("div", other, self)

    def __neg__(self) -> Expr:
        return call("neg", self)

    def __lt__(self, other: Expr | Number) -> Expr:
        return call("lt", self, other)

    def __le__(self, other: Expr | Number) -> Expr:
        return call("le", self, other)

    def __gt__(self, other: Expr | Number) -> Expr:
        return call("lt", other, self)

    def __ge__(self, other: Expr | Number) -> Expr:
        return call("le", other, self)


@dataclass(frozen=True)
class Arg(Expr):
    """The i-th input."""

    index: int


@dataclass(frozen=True)
class Const(Expr):
    """A number; it takes the dtype of what it is combined with."""

    value: Number


@dataclass(frozen=True)
class Call(Expr):
    """A primitive of UNARY or BINARY, or `where(condition, then, otherwise)`."""

    op: str
    args: tuple[Expr, ...]


@dataclass(frozen=True)
class Cast(Expr):
    """Conversion to a dtype. Float to integer truncates; to bool is `!= 0`."""

    dtype: DType
    arg: Expr


def as_expr(value: Expr | Number) -> Expr:
    return value if isinstance(value, Expr) else Const(value)


def call(op: str, *args: Expr | Number) -> Expr:
    return Call(op, tuple(map(as_expr, args)))


def maximum(a: Expr | Number, b: Expr | Number) -> Expr:
    return call("max", a, b)


def minimum(a: Expr | Number, b: Expr | Number) -> Expr:
    return call("min", a, b)


def where(condition: Expr, then: Expr | Number, otherwise: Expr | Number) -> Expr:
    return call("where", condition, then, otherwise)


def exp(x: Expr) -> Expr:
    return call("exp", x)


def sigmoid(x: Expr) -> Expr:
    return 1.0 / (1.0 + exp(-x))


def substitute(expr: Expr, replacement: Callable[[int], Expr]) -> Expr:
    """`expr` with every Arg(i) replaced by `replacement(i)`."""
    match expr:
        case Arg(index):
            return replacement(index)
        case Call(op, args):
            return Call(op, tuple(substitute(a, replacement) for a in args))
        case Cast(dtype, arg):
            return Cast(dtype, substitute(arg, replacement))
        case _:
            return expr


def arguments(expr: Expr) -> tuple[int, ...]:
    """Indices of the inputs that `expr` reads, sorted, once each."""
    found: set[int] = set()

    def note(index: int) -> Expr:
        found.add(index)
        return Arg(index)

    substitute(expr, note)
    return tuple(sorted(found))


def size(expr: Expr) -> int:
    """Number of primitives: the FLOPs an element costs, and what fusion keeps bounded."""
    match expr:
        case Call(_, args):
            return 1 + sum(map(size, args))
        case Cast(_, arg):
            return 1 + size(arg)
        case _:
            return 0


def evaluate(expr: Expr, args: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Run `expr` in NumPy, broadcasting; floating arithmetic stays in the arguments' dtype."""
    with np.errstate(all="ignore"):
        return np.asarray(_evaluate(expr, args))


def _evaluate(expr: Expr, args: Sequence[np.ndarray[Any, Any]]) -> Any:
    match expr:
        case Arg(index):
            return args[index]
        case Const(value):
            return value
        case Cast(dtype, arg):
            from rekindle.graph.ir import numpy_dtype

            return np.asarray(_evaluate(arg, args)).astype(numpy_dtype(dtype))
        case Call(op, operands):
            return _NUMPY[op](*(_evaluate(a, args) for a in operands))
        case _:
            raise TypeError(f"not an expression: {expr!r}")


def _divide(a: Any, b: Any) -> Any:
    if np.result_type(a, b).kind in "iu":
        quotient = np.floor_divide(a, b)
        return quotient + ((quotient < 0) & (quotient * b != a))
    return np.divide(a, b)


def _power(base: Any, exponent: Any) -> Any:
    like = base.dtype if hasattr(base, "dtype") else np.result_type(base, exponent)
    if like.kind in "iu" and np.any(np.less(exponent, 0)):
        base = np.asarray(base, np.float64)
    return np.power(base, exponent).astype(like)


def _erf(x: Any) -> Any:
    import math

    flat = np.asarray(x)
    return np.vectorize(math.erf, otypes=[np.float64])(flat).astype(flat.dtype)


_NUMPY: dict[str, Callable[..., Any]] = {
    "neg": np.negative, "abs": np.abs, "exp": np.exp, "log": np.log, "sqrt": np.sqrt,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "erf": _erf, "floor": np.floor, "ceil": np.ceil,
    "round": np.rint, "not": np.logical_not, "isnan": np.isnan, "isinf": np.isinf,
    "sign": np.sign, "recip": np.reciprocal, "add": np.add, "sub": np.subtract,
    "mul": np.multiply, "div": _divide, "pow": _power, "max": np.maximum, "min": np.minimum,
    "mod": np.mod, "fmod": np.fmod, "lt": np.less, "le": np.less_equal, "eq": np.equal,
    "and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor, "where": np.where,
}  # fmt: skip
