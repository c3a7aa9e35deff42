"""Elementwise expressions as people write them."""

from __future__ import annotations

from rekindle.graph.expr import Arg, Call, Cast, Const, Expr

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "mod": "%", "pow": "**", "lt": "<",
    "le": "<=", "eq": "==", "and": "&", "or": "|", "xor": "^",
}  # fmt: skip


def formula(expr: Expr) -> str:
    """The expression as text, inputs being a0, a1, ...: `min(max(a0, 0), 6)`."""
    match expr:
        case Arg(index):
            return f"a{index}"
        case Const(value):
            return f"{value:.6g}" if isinstance(value, float) else str(value)
        case Cast(dtype, arg):
            return f"{dtype}({formula(arg)})"
        case Call(op, (left, right)) if op in _INFIX:
            return f"{_operand(left)} {_INFIX[op]} {_operand(right)}"
        case Call("neg", (arg,)):
            return f"-{_operand(arg)}"
        case Call(op, args):
            return f"{op}({', '.join(map(formula, args))})"
        case _:
            raise TypeError(f"not an expression: {expr!r}")


def _operand(expr: Expr) -> str:
    compound = isinstance(expr, Call) and (expr.op in _INFIX or expr.op == "neg")
    return f"({formula(expr)})" if compound else formula(expr)
