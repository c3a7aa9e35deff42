"""Activation functions; the formulas are those of the ONNX operator specification."""

from __future__ import annotations

import math

import numpy as np

from rekindle.graph.expr import Expr, call, exp, maximum, minimum, sigmoid, where
from rekindle.graph.ir import Array, Node
from rekindle.graph.ops import Express, register
from rekindle.graph.ops._attributes import number, text
from rekindle.graph.ops._elementwise import Compute, elementwise

NAMES = (
    "Celu", "Elu", "Gelu", "HardSigmoid", "LeakyRelu", "Mish", "PRelu", "Relu", "Selu", "Shrink",
    "Sigmoid", "Softplus", "Softsign", "Swish", "ThresholdedRelu",
)  # fmt: skip

_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
"""Klambauer et al. 2017, "Self-Normalizing Neural Networks", as ONNX rounds them."""

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _register(name: str, since: int, compute: Compute, expr: Express, arity: int = 1) -> None:
    register(name, elementwise(compute, expr, since=since, arity=arity))


def _relu(node: Node, x: Array) -> Array:
    return np.maximum(x, 0)


def _relu_expr(node: Node, x: Expr) -> Expr:
    return maximum(x, 0)


def _leaky_relu(node: Node, x: Array) -> Array:
    return np.where(x < 0, number(node, "alpha", 0.01) * x, x)


def _leaky_relu_expr(node: Node, x: Expr) -> Expr:
    return where(x < 0, x * number(node, "alpha", 0.01), x)


def _prelu(node: Node, x: Array, slope: Array) -> Array:
    return np.where(x < 0, slope * x, x)


def _prelu_expr(node: Node, x: Expr, slope: Expr) -> Expr:
    return where(x < 0, x * slope, x)


def _elu(node: Node, x: Array) -> Array:
    return np.where(x < 0, number(node, "alpha", 1.0) * np.expm1(x), x)


def _elu_expr(node: Node, x: Expr) -> Expr:
    return where(x < 0, (exp(x) - 1.0) * number(node, "alpha", 1.0), x)


def _selu(node: Node, x: Array) -> Array:
    alpha, gamma = number(node, "alpha", _SELU_ALPHA), number(node, "gamma", _SELU_GAMMA)
    return gamma * np.where(x > 0, x, alpha * np.expm1(x))


def _selu_expr(node: Node, x: Expr) -> Expr:
    alpha, gamma = number(node, "alpha", _SELU_ALPHA), number(node, "gamma", _SELU_GAMMA)
    return where(x > 0, x, (exp(x) - 1.0) * alpha) * gamma


def _celu(node: Node, x: Array) -> Array:
    alpha = number(node, "alpha", 1.0)
    return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha))


def _celu_expr(node: Node, x: Expr) -> Expr:
    alpha = number(node, "alpha", 1.0)
    return maximum(x, 0.0) + minimum((exp(x / alpha) - 1.0) * alpha, 0.0)


def _thresholded_relu(node: Node, x: Array) -> Array:
    return np.where(x > number(node, "alpha", 1.0), x, 0)


def _thresholded_relu_expr(node: Node, x: Expr) -> Expr:
    return where(x > number(node, "alpha", 1.0), x, 0.0)


def _shrink(node: Node, x: Array) -> Array:
    bias, lambd = number(node, "bias", 0.0), number(node, "lambd", 0.5)
    return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0))


def _shrink_expr(node: Node, x: Expr) -> Expr:
    bias, lambd = number(node, "bias", 0.0), number(node, "lambd", 0.5)
    return where(x < -lambd, x + bias, where(x > lambd, x - bias, 0.0))


def _sigmoid(node: Node, x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _hard_sigmoid(node: Node, x: Array) -> Array:
    return np.clip(number(node, "alpha", 0.2) * x + number(node, "beta", 0.5), 0, 1)


def _hard_sigmoid_expr(node: Node, x: Expr) -> Expr:
    line = x * number(node, "alpha", 0.2) + number(node, "beta", 0.5)
    return minimum(maximum(line, 0.0), 1.0)


def _softplus(node: Node, x: Array) -> Array:
    return np.asarray(np.logaddexp(x, 0))


def _softplus_expr(node: Node, x: Expr) -> Expr:
    """log(1 + exp(x)), written so that exp never overflows."""
    return maximum(x, 0.0) + call("log", 1.0 + exp(-call("abs", x)))


def _softsign(node: Node, x: Array) -> Array:
    return np.asarray(x / (1 + np.abs(x)))


def _softsign_expr(node: Node, x: Expr) -> Expr:
    return x / (1.0 + call("abs", x))


def _mish(node: Node, x: Array) -> Array:
    return x * np.tanh(np.logaddexp(x, 0))


def _mish_expr(node: Node, x: Expr) -> Expr:
    return x * call("tanh", _softplus_expr(node, x))


def _swish(node: Node, x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-number(node, "alpha", 1.0) * x)))


def _swish_expr(node: Node, x: Expr) -> Expr:
    return x * sigmoid(x * number(node, "alpha", 1.0))


def _is_tanh_gelu(node: Node) -> bool:
    return text(node, "approximate", "none", choices=("none", "tanh")) == "tanh"


def _gelu(node: Node, x: Array) -> Array:
    if _is_tanh_gelu(node):
        share = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    else:
        share = _erf(x / math.sqrt(2))
    return np.asarray(0.5 * x * (1 + share))


def _gelu_expr(node: Node, x: Expr) -> Expr:
    if _is_tanh_gelu(node):
        inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
        return x * 0.5 * (1.0 + call("tanh", inner))
    return x * 0.5 * (1.0 + call("erf", x * math.sqrt(0.5)))


_register("Celu", 12, _celu, _celu_expr)
_register("Elu", 6, _elu, _elu_expr)
_register("Gelu", 20, _gelu, _gelu_expr)
_register("HardSigmoid", 6, _hard_sigmoid, _hard_sigmoid_expr)
_register("LeakyRelu", 6, _leaky_relu, _leaky_relu_expr)
_register("Mish", 18, _mish, _mish_expr)
_register("PRelu", 7, _prelu, _prelu_expr, arity=2)
_register("Relu", 6, _relu, _relu_expr)
_register("Selu", 6, _selu, _selu_expr)
_register("Shrink", 9, _shrink, _shrink_expr)
_register("Sigmoid", 6, _sigmoid, lambda _, x: sigmoid(x))
_register("Softplus", 1, _softplus, _softplus_expr)
_register("Softsign", 1, _softsign, _softsign_expr)
_register("Swish", 24, _swish, _swish_expr)
_register("ThresholdedRelu", 10, _thresholded_relu, _thresholded_relu_expr)
