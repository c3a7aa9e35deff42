"""SwiGLU: one half of a layer gates the other. Shazeer 2020 "GLU Variants"."""

from __future__ import annotations

import numpy as np

from rekindle.graph.expr import Expr, sigmoid
from rekindle.graph.ir import Array, Node
from rekindle.graph.ops import register
from rekindle.graph.ops._attributes import number
from rekindle.graph.ops._elementwise import elementwise

NAMES = ("SwiGLU",)


def _compute(node: Node, a: Array, b: Array) -> Array:
    return np.asarray(a / (1 + np.exp(-number(node, "alpha", 1.0) * a)) * b)


def _expr(node: Node, a: Expr, b: Expr) -> Expr:
    return a * sigmoid(a * number(node, "alpha", 1.0)) * b


register("SwiGLU", elementwise(_compute, _expr, since=28, arity=2))
