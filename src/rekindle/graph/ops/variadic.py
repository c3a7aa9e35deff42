"""Max, Min, Mean and Sum of one or more inputs, broadcast as NumPy does (opset 8 on)."""

from __future__ import annotations

from functools import reduce

import numpy as np

from rekindle.graph.expr import Expr, maximum, minimum
from rekindle.graph.ir import Array, Node
from rekindle.graph.ops import register
from rekindle.graph.ops._elementwise import elementwise

NAMES = ("Max", "Mean", "Min", "Sum")


def _max(node: Node, *arrays: Array) -> Array:
    return reduce(np.maximum, arrays)


def _min(node: Node, *arrays: Array) -> Array:
    return reduce(np.minimum, arrays)


def _sum(node: Node, *arrays: Array) -> Array:
    return reduce(np.add, arrays)


def _mean(node: Node, *arrays: Array) -> Array:
    return reduce(np.add, arrays) / len(arrays)


def _sum_expr(node: Node, *args: Expr) -> Expr:
    return reduce(lambda a, b: a + b, args)


def _mean_expr(node: Node, *args: Expr) -> Expr:
    return _sum_expr(node, *args) * (1 / len(args))


register("Max", elementwise(_max, lambda _, *args: reduce(maximum, args), since=6, arity=None))
register("Min", elementwise(_min, lambda _, *args: reduce(minimum, args), since=6, arity=None))
register("Mean", elementwise(_mean, _mean_expr, since=6, arity=None))
register("Sum", elementwise(_sum, _sum_expr, since=6, arity=None))
