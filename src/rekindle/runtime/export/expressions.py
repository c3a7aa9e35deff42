"""Symbolic sizes of a torch.export archive, looked at before SymPy's parser evaluates them."""

from __future__ import annotations

import ast
import re

_SYMPY_CALL = re.compile(r"[A-Z][A-Za-z]*|floor|ceiling|sqrt")
_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop,
    ast.keyword, ast.Load,
)  # fmt: skip


def is_arithmetic(text: str) -> bool:
    """Whether `text` is numbers, names, operators and calls of SymPy's classes, nothing else.

    A string is allowed in `Symbol('s0')` alone: elsewhere SymPy would parse it in turn.
    """
    try:
        tree = ast.parse(text.strip() or "0", mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    names_of_symbols = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Symbol"
        for argument in node.args
    }
    return all(_is_plain(node, id(node) in names_of_symbols) for node in ast.walk(tree))


def _is_plain(node: ast.AST, names_a_symbol: bool) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return _SYMPY_CALL.fullmatch(name) is not None
        case ast.Name(id=name):
            return "__" not in name
        case ast.Constant(value=str() as word):
            return names_a_symbol and word.isidentifier()
        case ast.Constant(value=value):
            return isinstance(value, (int, float))
        case _:
            return isinstance(node, _ARITHMETIC)
