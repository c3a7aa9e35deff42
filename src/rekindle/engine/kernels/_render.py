"""From elementwise expressions to OpenCL C, and the functions that the C calls.

`render` writes one C expression for a scalar (any dtype) or for a vector of 4, 8 or 16 floats;
`prelude` is the C text, placed once at the head of a program, that such expressions rely on.

Types. Both operands of a primitive are brought to one dtype: equal dtypes stay, a bool follows
the other, an integer follows a float, integers promote as in NumPy, and a `Const` takes the dtype
of what it is combined with. 16-bit floats are computed in float and rounded when stored or cast.
Integer overflow wraps; an integer divided by zero gives 0; NaN and numbers outside the range of
an integer become what NumPy makes of them on x86.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rekindle._errors import UnsupportedOperatorError
from rekindle._types import DType
from rekindle.graph.expr import Arg, Call, Cast, Const, Expr, evaluate

LANES = (1, 4, 8, 16)
_STORAGE = {
    DType.FLOAT32: "float", DType.FLOAT16: "half", DType.BFLOAT16: "rk1_bfloat16",
    DType.FLOAT64: "double", DType.INT8: "char", DType.UINT8: "uchar", DType.INT16: "short",
    DType.UINT16: "ushort", DType.INT32: "int", DType.UINT32: "uint", DType.INT64: "long",
    DType.UINT64: "ulong", DType.BOOL: "uchar",
}  # fmt: skip
SINGLE = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16)
"""Floats that are computed in float, however they are stored."""
_COMPARISONS = {"lt": "<", "le": "<=", "eq": "=="}
_LOGICAL = {"and": "&", "or": "|", "xor": "^"}
_ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_PREDICATES = (*_COMPARISONS, *_LOGICAL, "not", "isnan", "isinf")
_WHOLE = ("floor", "ceil", "round")
_OWN_DOUBLE = ("max", "min", "sign", "mod")
_DOUBLE_NAMES = {"abs": "fabs", "round": "rint"}


def storage_type(dtype: DType) -> str:
    """C type of an element in memory, for pointers; `rk1_load(type, p, i)` reads one."""
    if dtype not in _STORAGE:
        raise UnsupportedOperatorError(f"no OpenCL type holds {dtype}")
    return _STORAGE[dtype]


def compute_type(dtype: DType) -> str:
    """C type of an element in a variable: the storage type, float for 16-bit floats."""
    return "float" if dtype in SINGLE else storage_type(dtype)


def render(expr: Expr, args: Sequence[str], dtypes: Sequence[DType], *, lanes: int = 1) -> str:
    """One C expression for `expr`, `args[i]` being the C text of input i of dtype `dtypes[i]`.

    The expression's C type is `compute_type(result_dtype(expr, dtypes))`; with `lanes` of 4, 8
    or 16 every input is a `float{lanes}`, and so is the result (see `vectorizable`).
    UnsupportedOperatorError where a primitive has no meaning for the dtypes.
    """
    if lanes > 1 and not vectorizable(expr, dtypes):
        raise UnsupportedOperatorError(
            f"{expr} of {', '.join(map(str, dtypes))} cannot be computed on vectors of floats"
        )
    renderer = _Renderer(args, dtypes, lanes)
    return renderer.emit(expr, renderer.result(expr))


def result_dtype(expr: Expr, dtypes: Sequence[DType]) -> DType:
    """The dtype that `expr` gives for inputs of `dtypes`; a lone constant keeps its own kind."""
    return _Renderer((), dtypes, 1).result(expr)


def vectorizable(expr: Expr, dtypes: Sequence[DType]) -> bool:
    """Whether `render` can write `expr` for vectors: float32 throughout, conditions aside."""
    renderer = _Renderer((), dtypes, 1)

    def plain(e: Expr) -> bool:
        kind = renderer.infer(e)
        operands = e.args if isinstance(e, Call) else (e.arg,) if isinstance(e, Cast) else ()
        return kind in (None, DType.FLOAT32, DType.BOOL) and all(map(plain, operands))

    floats = all(dtype is DType.FLOAT32 for dtype in dtypes)
    return floats and plain(expr) and renderer.result(expr) is DType.FLOAT32


def prelude(lanes: int) -> str:
    """C text of the functions that expressions of this width call, once for each program.

    Width 1 also brings the functions for other dtypes. All rely on `storage_prelude`.
    """
    if lanes not in LANES:
        raise ValueError(f"lanes is {lanes}; known: {LANES}")
    folder = Path(__file__).parent
    suffix = "" if lanes == 1 else str(lanes)
    head = f"#define V float{suffix}\n#define I int{suffix}\n"
    head += f"#define LANES {lanes}\n#define F(f) rk{lanes}_##f\n"
    text = head + (folder / "_math.cl").read_text("utf-8") + "#undef V\n#undef I\n"
    text += "#undef LANES\n#undef F\n"
    return (folder / "_scalar.cl").read_text("utf-8") + text if lanes == 1 else text


def storage_prelude() -> str:
    """C text of `rk_load`, `rk_store` and their like, at the head of every program."""
    return (Path(__file__).parent / "_storage.cl").read_text("utf-8")


def float_literal(value: float) -> str:
    """C literal of the float32 nearest to `value`."""
    with np.errstate(over="ignore"):
        single = float(np.float32(value))
    if math.isnan(single):
        return "NAN"
    if math.isinf(single):
        return "INFINITY" if single > 0 else "(-INFINITY)"
    return f"{single!r}f" if math.copysign(1.0, single) > 0 else f"({single!r}f)"


class _Renderer:
    def __init__(self, args: Sequence[str], dtypes: Sequence[DType], lanes: int) -> None:
        self._args = args
        self._dtypes = dtypes
        self._lanes = lanes
        self._vector = f"float{lanes}" if lanes > 1 else ""
        self._mask = f"int{lanes}" if lanes > 1 else ""
        self._inferred: dict[int, DType | None] = {}

    def result(self, expr: Expr) -> DType:
        kind = self.infer(expr)
        if kind is not None:
            return kind
        kinds = {np.asarray(n).dtype.kind for n in _numbers(expr)}
        if "f" in kinds:
            return DType.FLOAT32
        return DType.INT64 if kinds & {"i", "u"} else DType.BOOL

    def infer(self, expr: Expr) -> DType | None:
        """The dtype of `expr`; None for one made of constants (or a choice among them): any."""
        if id(expr) not in self._inferred:
            self._inferred[id(expr)] = self._infer(expr)
        return self._inferred[id(expr)]

    def _infer(self, expr: Expr) -> DType | None:
        match expr:
            case Arg(index):
                return self._dtypes[index]
            case Cast(dtype, _):
                return dtype
            case Call(op, args):
                if op in _PREDICATES:
                    return DType.BOOL
                kinds = [self.infer(a) for a in args]
                if op == "pow":
                    return kinds[0] or kinds[1]
                return _promote(kinds[1:] if op == "where" else kinds)
            case _:
                return None

    def emit(self, expr: Expr, dtype: DType) -> str:
        """C text of `expr` brought to `dtype`."""
        if _is_constant(expr):
            return self._literal(_number(expr), dtype)
        kind = self.infer(expr) or dtype
        match expr:
            case Arg(index):
                text = self._args[index]
            case Cast(_, arg):
                source = self.infer(arg)
                source = source or (DType.FLOAT32 if self._lanes > 1 else self.result(arg))
                text = self._convert(self.emit(arg, source), source, kind)
            case Call(op, args):
                text = self._call(op, args, kind)
            case _:
                raise TypeError(f"not an expression: {expr!r}")
        return self._convert(text, kind, dtype)

    def _literal(self, value: float | int | bool, dtype: DType) -> str:
        if dtype is DType.BOOL:
            if self._lanes > 1:
                return f"({self._mask})({-1 if value else 0})"
            return "1" if value else "0"
        if dtype in SINGLE:
            text = float_literal(float(value))
            return f"({self._vector})({text})" if self._lanes > 1 else text
        if dtype is DType.FLOAT64:
            if math.isfinite(value):
                return f"({float(value)!r})"
            return f"((double){float_literal(float(value))})"
        return _integer_literal(value, dtype)

    def _convert(self, text: str, source: DType, to: DType) -> str:
        if source is to or (source in SINGLE and to is DType.FLOAT32):
            return text
        if self._lanes > 1:
            if to is DType.BOOL:
                return f"({text} != ({self._vector})(0.0f))"
            return f"({text} ? ({self._vector})(1.0f) : ({self._vector})(0.0f))"
        if to is DType.BOOL:
            return f"({text} != 0)"
        if to in SINGLE:
            rounded = "" if to is DType.FLOAT32 else f"rk1_round_{to.value}"
            return f"{rounded}((float)({text}))"
        if source.is_float and not to.is_float:
            return _float_to_integer(text, source, to)
        return f"(({compute_type(to)})({text}))"

    def _call(self, op: str, args: tuple[Expr, ...], kind: DType) -> str:
        if op == "where":
            condition = self.emit(args[0], DType.BOOL)
            return f"({condition} ? {self.emit(args[1], kind)} : {self.emit(args[2], kind)})"
        if op in _PREDICATES:
            return self._predicate(op, args)
        if op == "pow":
            return self._power(args[0], args[1], kind)
        if kind is DType.BOOL:
            return self._convert(self._integer(op, args, DType.INT32), DType.INT32, kind)
        if kind.is_float:
            return self._floating(op, args, kind)
        return self._integer(op, args, kind)

    def _predicate(self, op: str, args: tuple[Expr, ...]) -> str:
        if op in _LOGICAL or op == "not":
            texts = [self.emit(a, DType.BOOL) for a in args]
            if op == "not":
                return f"(~{texts[0]})" if self._lanes > 1 else f"(!{texts[0]})"
            return f"({texts[0]} {_LOGICAL[op]} {texts[1]})"
        kind = _promote([self.infer(a) for a in args]) or DType.FLOAT32
        if op in ("isnan", "isinf"):
            if not kind.is_float:
                return self._literal(False, DType.BOOL)
            name = f"{op}" if kind is DType.FLOAT64 else f"rk{self._lanes}_{op}"
            return f"{name}({self.emit(args[0], kind)})"
        if self._lanes > 1 and kind is DType.BOOL and op != "eq":
            kind = DType.FLOAT32
        left, right = (self.emit(a, kind) for a in args)
        return f"({left} {_COMPARISONS[op]} {right})"

    def _floating(self, op: str, args: tuple[Expr, ...], kind: DType) -> str:
        texts = [self.emit(a, kind) for a in args]
        if op in _ARITHMETIC:
            return f"({texts[0]} {_ARITHMETIC[op]} {texts[1]})"
        if op == "neg":
            return f"(-{texts[0]})"
        if op == "recip":
            return f"({self._literal(1, kind)} / {texts[0]})"
        if kind is DType.FLOAT64:
            name = f"rk1_double_{op}" if op in _OWN_DOUBLE else _DOUBLE_NAMES.get(op, op)
            return f"{name}({', '.join(texts)})"
        if op in ("max", "min"):
            # The cheap form wants the number second.
            order = sorted(range(2), key=lambda i: _is_constant(args[i]))
            constant = args[order[1]]
            if _is_constant(constant) and not math.isnan(_number(constant)):
                return f"rk{self._lanes}_{op}_const({texts[order[0]]}, {texts[order[1]]})"
        return f"rk{self._lanes}_{op}({', '.join(texts)})"

    def _integer(self, op: str, args: tuple[Expr, ...], kind: DType) -> str:
        texts = [self.emit(a, kind) for a in args]
        c = compute_type(kind)
        if op in _WHOLE:
            return texts[0]
        if op == "abs":
            return f"(({c})abs({texts[0]}))" if kind.value.startswith("int") else texts[0]
        unsigned = "ulong" if kind.itemsize == 8 else "uint"
        if op == "neg":
            return f"(({c})(0 - ({unsigned})({texts[0]})))"
        if op in ("add", "sub", "mul"):
            symbol = _ARITHMETIC[op]
            return f"(({c})(({unsigned})({texts[0]}) {symbol} ({unsigned})({texts[1]})))"
        if op in ("max", "min"):
            return f"{op}(({c})({texts[0]}), ({c})({texts[1]}))"
        if op == "recip":
            op, texts = "div", ["1", texts[0]]
        if op in ("div", "mod", "fmod", "sign"):
            return f"(({c})rk1_{op}_{_wide(kind)}({', '.join(texts)}))"
        raise UnsupportedOperatorError(f"{op} of {kind} is not defined", hint="cast to float32")

    def _power(self, base: Expr, exponent: Expr, kind: DType) -> str:
        other = self.infer(exponent)
        if not kind.is_float:
            if other is not None and other.is_float:
                raise UnsupportedOperatorError(f"pow of {kind} to a {other} has no kernel")
            texts = [self.emit(e, kind) for e in (base, exponent)]
            return f"(({compute_type(kind)})rk1_pow_{_wide(kind)}({', '.join(texts)}))"
        if kind is DType.FLOAT64:
            return f"pow({self.emit(base, kind)}, {self.emit(exponent, kind)})"
        power = float(_number(exponent)) if _is_constant(exponent) else math.nan
        name = {2.0: "square", 3.0: "cube"}.get(power)
        if name:
            return f"rk{self._lanes}_{name}({self.emit(base, kind)})"
        return f"rk{self._lanes}_pow({self.emit(base, kind)}, {self.emit(exponent, kind)})"


def _is_constant(expr: Expr) -> bool:
    match expr:
        case Arg():
            return False
        case Call(_, args):
            return all(map(_is_constant, args))
        case Cast(_, arg):
            return _is_constant(arg)
        case _:
            return True


def _numbers(expr: Expr) -> list[float | int | bool]:
    """The constants whose kinds decide the dtype of an expression that has no other."""
    match expr:
        case Const(value):
            return [value]
        case Call(op, args):
            return [n for a in (args[1:] if op == "where" else args) for n in _numbers(a)]
        case _:
            return []


def _number(expr: Expr) -> float | int | bool:
    """The value of an expression without inputs."""
    if isinstance(expr, Const):
        return expr.value
    value: Any = evaluate(expr, ()).item()
    return value  # type: ignore[no-any-return]


def _promote(kinds: Sequence[DType | None]) -> DType | None:
    """The dtype in which a primitive computes; None where all operands are constants."""
    result: DType | None = None
    for kind in kinds:
        if result is None or result is DType.BOOL:
            result = kind or result
        elif kind is None or kind is DType.BOOL or kind is result:
            continue
        elif result.is_float != kind.is_float:
            result = result if result.is_float else kind
        elif {kind, result} == {DType.FLOAT16, DType.BFLOAT16}:
            result = DType.FLOAT32
        elif kind.is_float:
            result = max(kind, result, key=lambda k: k.itemsize)
        else:
            result = DType(np.promote_types(result.value, kind.value).name)
            if result.is_float:
                raise UnsupportedOperatorError("no integer holds both uint64 and int64")
    return result


def _integer_literal(value: float | int | bool, dtype: DType) -> str:
    whole = math.isfinite(value) and float(value).is_integer()
    info = np.iinfo(dtype.value)
    if not whole or not info.min <= int(value) <= info.max:
        raise UnsupportedOperatorError(
            f"the constant {value} is not a {dtype}", hint="cast the tensor to float32 first"
        )
    suffix = {DType.INT64: "L", DType.UINT64: "UL", DType.UINT32: "U"}.get(dtype, "")
    if int(value) == info.min and info.min < 0:
        return f"({int(value) + 1}{suffix} - 1)"
    return f"({int(value)}{suffix})" if value < 0 else f"{int(value)}{suffix}"


def _float_to_integer(text: str, source: DType, to: DType) -> str:
    prefix = "rk1_double" if source is DType.FLOAT64 else "rk1"
    width = {DType.UINT64: "ulong", DType.INT64: "long", DType.UINT32: "long"}.get(to, "int")
    return f"(({compute_type(to)}){prefix}_{width}({text}))"


def _wide(dtype: DType) -> str:
    """The C type in which integers of `dtype` are divided."""
    if dtype.itemsize == 8 or dtype is DType.UINT32:
        return compute_type(dtype)
    return "int"
