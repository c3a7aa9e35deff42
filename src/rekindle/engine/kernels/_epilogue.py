"""What a kernel does to a sum before it stores it, as defines for its template.

A template that takes an epilogue writes its vectors as `V` (or `float`), has a variable `v` with
the sum, and between computing and storing it says

    EPILOGUE_READ(at)      declares r1, r2, ...: the operands at element `at` of the output
    v = EPILOGUE;          the expression of v, r1, r2, ...

with `EPILOGUE_PARAMS` among the kernel's parameters, just before the output. Where two sums follow
one another, `MIDDLE` is the expression of v that the first one ends with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rekindle._types import DType
from rekindle.engine.kernels._render import SINGLE, render, storage_type, vectorizable
from rekindle.graph.expr import Expr, size
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall

NOTHING = (("EPILOGUE", "v"), ("EPILOGUE_PARAMS", ""), ("EPILOGUE_READ(at)", ""))
"""Defines of a template whose output another launch finishes."""
Read = Callable[[int, Value], str]
"""(number, operand) → C declarations of `r<number>` from the pointer `e<number>` at `at`."""


@dataclass(frozen=True)
class Epilogue:
    """The epilogue of one call: defines, the operands as arguments, what it costs an element."""

    defines: tuple[tuple[str, str], ...]
    args: tuple[Value, ...]
    flops: int

    @property
    def nbytes(self) -> int:
        return sum(v.nbytes for v in self.args)


def operands(call: LogicalCall, first: int) -> tuple[Value, ...]:
    """The epilogue's operands: the inputs from `first` on."""
    return tuple(v for v in call.inputs[first:] if v is not None)


def takes(call: LogicalCall, first: int) -> bool:
    """Whether every operand is a float of 32 or 16 bits with the output's shape and layout, or one
    element.
    """
    out = call.output
    return all(
        v.dtype in SINGLE
        and (is_single(v) or (v.static_shape == out.static_shape and v.layout == out.layout))
        for v in operands(call, first)
    )


def vectorizes(call: LogicalCall, first: int) -> bool:
    """Whether the epilogue can be written for vectors: in float throughout, conditions aside."""
    expr: Expr | None = call.params.get("epilogue")
    count = 1 + len(operands(call, first))
    return expr is None or vectorizable(expr, [DType.FLOAT32] * count)


def is_single(value: Value) -> bool:
    """Whether a value has one element."""
    return math.prod(value.static_shape) == 1


def epilogue(
    call: LogicalCall, first: int, lanes: int, read: Read | None = None, position: str = "at"
) -> Epilogue:
    """The epilogue of `call`, whose operands begin at input `first`, on vectors of `lanes`.

    `read` writes how operands are read where the output's element is at `position`; by default
    they lie as the output does.
    """
    extra = operands(call, first)
    expr: Expr | None = call.params.get("epilogue")
    text = "v"
    if expr is not None:
        names = ["v", *(f"r{i}" for i in range(1, len(extra) + 1))]
        text = render(expr, names, [DType.FLOAT32] * len(names), lanes=lanes)
    read = read or (lambda number, value: _read(number, value, lanes))
    defines = (
        ("EPILOGUE", text),
        ("EPILOGUE_PARAMS", _params(extra)),
        (f"EPILOGUE_READ({position})", " ".join(read(i, v) for i, v in enumerate(extra, 1))),
    )
    return Epilogue(defines, extra, size(expr) if expr is not None else 0)


def middle(call: LogicalCall, lanes: int) -> Epilogue:
    """The epilogue of a sum that another one goes on with, under its own name: no operands."""
    expr: Expr | None = call.params.get("epilogue")
    text = "v" if expr is None else render(expr, ["v"], [DType.FLOAT32], lanes=lanes)
    return Epilogue((("MIDDLE", text),), (), size(expr) if expr is not None else 0)


def _params(extra: Sequence[Value]) -> str:
    kinds = [storage_type(v.dtype) for v in extra]
    return "".join(f"const __global {t} *restrict e{i}, " for i, t in enumerate(kinds, 1))


def _read(number: int, value: Value, lanes: int) -> str:
    kind, stored = "float" if lanes == 1 else f"float{lanes}", storage_type(value.dtype)
    if is_single(value) or lanes == 1:
        at = "0" if is_single(value) else "at"
        return f"const {kind} r{number} = ({kind})(rk1_load({stored}, e{number}, {at}));"
    return f"const {kind} r{number} = rk_load({lanes}, {stored}, e{number} + (at));"
