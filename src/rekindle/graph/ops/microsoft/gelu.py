"""Gelu and its kin with a bias. Hendrycks and Gimpel 2016 "Gaussian Error Linear Units"."""

from __future__ import annotations

import math

import numpy as np

from rekindle.graph.expr import Expr, call, sigmoid
from rekindle.graph.ir import Array, Node
from rekindle.graph.ops import register
from rekindle.graph.ops._attributes import number
from rekindle.graph.ops._composite import Body, composite
from rekindle.graph.ops._elementwise import elementwise

NAMES = (
    "com.microsoft::BiasAdd", "com.microsoft::BiasGelu", "com.microsoft::BiasSplitGelu",
    "com.microsoft::FastGelu", "com.microsoft::Gelu", "com.microsoft::QuickGelu",
)  # fmt: skip

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(node: Node, *terms: Array) -> Array:
    x = np.asarray(sum(terms))
    return np.asarray(0.5 * x * (1 + _erf(x / math.sqrt(2))))


def _sum(terms: tuple[Expr, ...]) -> Expr:
    return terms[0] + terms[1] if len(terms) > 1 else terms[0]


def _gelu_expr(node: Node, *terms: Expr) -> Expr:
    x = _sum(terms)
    return x * 0.5 * (1.0 + call("erf", x * math.sqrt(0.5)))


def _fast(node: Node, *terms: Array) -> Array:
    x = np.asarray(sum(terms))
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _fast_expr(node: Node, *terms: Expr) -> Expr:
    x = _sum(terms)
    inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
    return x * 0.5 * (1.0 + call("tanh", inner))


def _quick(node: Node, x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-number(node, "alpha", 1.702) * x)))


def _quick_expr(node: Node, x: Expr) -> Expr:
    return x * sigmoid(x * number(node, "alpha", 1.702))


def _split(body: Body) -> tuple[str, ...]:
    """The first half of the features times the Gelu of the second."""
    x = body.call("Add", body.input(0), body.input(1))
    left, right = body.calls("Split", x, outputs=2, axis=-1, num_outputs=2)
    return (body.call("Mul", left, body.call("Gelu", right, domain="com.microsoft")),)


def _bias_add(body: Body) -> tuple[str, ...]:
    x = body.call("Add", body.input(0), body.input(1))
    return (body.call("Add", x, body.input(2)),)


register("com.microsoft::Gelu", elementwise(_gelu, _gelu_expr, since=1, arity=1))
register("com.microsoft::BiasGelu", elementwise(_gelu, _gelu_expr, since=1, arity=2))
register("com.microsoft::FastGelu", elementwise(_fast, _fast_expr, since=1, arity=None))
register("com.microsoft::QuickGelu", elementwise(_quick, _quick_expr, since=1, arity=1))
register("com.microsoft::BiasSplitGelu", composite(_split))
register("com.microsoft::BiasAdd", composite(_bias_add))
