"""Operators on quantized numbers: dequantized, computed in float32, quantized again.

Sums of products stay whole numbers (MatMulInteger). ONNX Runtime rounds the same way, but for
its own order of factors: a result may lie one step from its.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rekindle.graph import ops
from rekindle.graph.ir import numpy_dtype
from rekindle.graph.ops import register
from rekindle.graph.ops._attributes import flag, integer, number
from rekindle.graph.ops._composite import Body, composite
from rekindle.graph.ops.microsoft.fused import transposed

NAMES = (
    "com.microsoft::DequantizeLinear", "com.microsoft::DynamicQuantizeLSTM",
    "com.microsoft::DynamicQuantizeMatMul",
    "com.microsoft::MatMulIntegerToFloat", "com.microsoft::QGemm", "com.microsoft::QLinearAdd",
    "com.microsoft::QLinearAveragePool", "com.microsoft::QLinearConcat",
    "com.microsoft::QLinearConv", "com.microsoft::QLinearGlobalAveragePool",
    "com.microsoft::QLinearLeakyRelu", "com.microsoft::QLinearMul",
    "com.microsoft::QLinearSigmoid", "com.microsoft::QLinearSoftmax",
    "com.microsoft::QLinearWhere", "com.microsoft::QuantizeLinear",
)  # fmt: skip

_WINDOW = (
    "auto_pad", "ceil_mode", "count_include_pad", "dilations", "group", "kernel_shape", "pads",
    "strides",
)  # fmt: skip


def _real(body: Body, x: str, scale: str, zero: str) -> str:
    return body.call("DequantizeLinear", x, scale, zero)


def _stored(body: Body, y: str, scale: str, zero: str, like: str) -> str:
    """Round y to steps of `scale`, in the element type of `zero`, or else of `like`."""
    zero = zero or body.constant(np.zeros((), numpy_dtype(body.dtype(like))))
    return body.call("QuantizeLinear", y, scale, zero)


def _binary(operator: str) -> Callable[[Body], Sequence[str]]:
    def describe(body: Body) -> tuple[str, ...]:
        a = _real(body, body.input(0), body.input(1), body.optional(2))
        b = _real(body, body.input(3), body.input(4), body.optional(5))
        y = body.call(operator, a, b)
        return (_stored(body, y, body.input(6), body.optional(7), body.input(0)),)

    return describe


def _unary(compute: Callable[[Body, str], str]) -> Callable[[Body], Sequence[str]]:
    def describe(body: Body) -> tuple[str, ...]:
        x = body.input(0)
        y = compute(body, _real(body, x, body.input(1), body.optional(2)))
        return (_stored(body, y, body.input(3), body.optional(4), x),)

    return describe


def _leaky_relu(body: Body, x: str) -> str:
    return body.call("LeakyRelu", x, alpha=number(body.node, "alpha", 0.01))


def _softmax(body: Body, x: str) -> str:
    """Its axis means what Softmax of the version `opset` means by it."""
    version = integer(body.node, "opset")
    axis = integer(body.node, "axis", -1 if version >= 13 else 1)
    return body.calls("Softmax", x, outputs=1, version=version, axis=axis)[0]


def _global_average_pool(body: Body, x: str) -> str:
    if not flag(body.node, "channels_last"):
        return body.call("GlobalAveragePool", x)
    y = body.call("GlobalAveragePool", transposed(body, x, channels_last=False))
    return transposed(body, y, channels_last=True)


def _average_pool(body: Body, x: str) -> str:
    attrs = {k: v for k, v in body.node.attrs.items() if k in _WINDOW}
    if not flag(body.node, "channels_last"):
        return body.call("AveragePool", x, **attrs)
    y = body.call("AveragePool", transposed(body, x, channels_last=False), **attrs)
    return transposed(body, y, channels_last=True)


def _concat(body: Body) -> tuple[str, ...]:
    triples = range(2, len(body.node.inputs), 3)
    parts = [_real(body, body.input(i), body.input(i + 1), body.optional(i + 2)) for i in triples]
    y = body.call("Concat", *parts, axis=integer(body.node, "axis"))
    return (_stored(body, y, body.input(0), body.optional(1), body.input(2)),)


def _where(body: Body) -> tuple[str, ...]:
    a = _real(body, body.input(1), body.input(2), body.optional(3))
    b = _real(body, body.input(4), body.input(5), body.optional(6))
    y = body.call("Where", body.input(0), a, b)
    return (_stored(body, y, body.input(7), body.optional(8), body.input(1)),)


def _conv(body: Body) -> tuple[str, ...]:
    """QLinearConv, images with channels last where it says so."""
    attrs = {k: v for k, v in body.node.attrs.items() if k in _WINDOW}
    rest = [body.input(i) for i in range(1, 8)]
    x, last = body.input(0), flag(body.node, "channels_last")
    if last:
        x = transposed(body, x, channels_last=False)
    y = body.call("QLinearConv", x, *rest, body.optional(8), **attrs)
    return (transposed(body, y, channels_last=True) if last else y,)


# --- products ----------------------------------------------------------------------------------


def _scaled(body: Body, sums: str, scales: Sequence[str], bias: str) -> str:
    """Whole sums as float32, times the scales, plus the bias."""
    factor = scales[0] if len(scales) == 1 else body.call("Mul", *scales)
    y = body.call("Mul", body.call("Cast", sums, to=1), factor)
    return body.call("Add", y, bias) if bias else y


def _to_float(body: Body) -> tuple[str, ...]:
    a, b = body.input(0), body.input(1)
    sums = body.call("MatMulInteger", a, b, body.optional(4), body.optional(5))
    return (_scaled(body, sums, (body.input(2), body.input(3)), body.optional(6)),)


def _dynamic(body: Body) -> tuple[str, ...]:
    """A is quantized by its own range."""
    a, scale, zero = body.calls("DynamicQuantizeLinear", body.input(0), outputs=3)
    sums = body.call("MatMulInteger", a, body.input(1), zero, body.optional(3))
    return (_scaled(body, sums, (scale, body.input(2)), body.optional(4)),)


def _gemm(body: Body) -> tuple[str, ...]:
    a, b = body.input(0), body.input(3)
    a = body.call("Transpose", a, perm=(1, 0)) if flag(body.node, "transA") else a
    b = body.call("Transpose", b, perm=(1, 0)) if flag(body.node, "transB") else b
    sums = body.call("MatMulInteger", a, b, body.optional(2), body.optional(5))
    if body.has(6):
        sums = body.call("Add", sums, body.input(6))
    y = _scaled(body, sums, (body.input(1), body.input(4)), "")
    alpha = number(body.node, "alpha", 1.0)
    if alpha != 1.0:
        y = body.call("Mul", y, body.number(alpha, y))
    return (_stored(body, y, body.input(7), body.optional(8), a) if body.has(7) else y,)


# --- DynamicQuantizeLSTM -----------------------------------------------------------------------


def _weights(body: Body, index: int, parameters: int) -> str:
    """(directions, inputs, gates) of whole numbers as (directions, gates, inputs) in float32."""
    w, rows = body.input(index), []
    for x in (w, body.input(parameters + 1), body.input(parameters)):
        rows.append(body.call("Cast", x, to=1))
    directions = body.sizes(w)[0]
    shape = body.integers(directions, 1, -1)
    zero, scale = (body.call("Reshape", x, shape) for x in rows[1:])
    real = body.call("Mul", body.call("Sub", rows[0], zero), scale)
    return body.call("Transpose", real, perm=(0, 2, 1))


def _lstm(body: Body) -> tuple[str, ...]:
    """In float32 on the dequantized weights: its input need not be quantized on the way."""
    w, r = _weights(body, 1, 8), _weights(body, 2, 10)
    rest = [body.optional(i) for i in range(3, 8)]
    return body.calls("LSTM", body.input(0), w, r, *rest, outputs=3, **body.node.attrs)


register("com.microsoft::DynamicQuantizeLSTM", composite(_lstm))
register("com.microsoft::QLinearAdd", composite(_binary("Add")))
register("com.microsoft::QLinearMul", composite(_binary("Mul")))
register("com.microsoft::QLinearSigmoid", composite(_unary(lambda b, x: b.call("Sigmoid", x))))
register("com.microsoft::QLinearLeakyRelu", composite(_unary(_leaky_relu)))
register("com.microsoft::QLinearSoftmax", composite(_unary(_softmax)))
register("com.microsoft::QLinearGlobalAveragePool", composite(_unary(_global_average_pool)))
register("com.microsoft::QLinearAveragePool", composite(_unary(_average_pool)))
register("com.microsoft::QLinearConcat", composite(_concat))
register("com.microsoft::QLinearWhere", composite(_where))
register("com.microsoft::QLinearConv", composite(_conv))
register("com.microsoft::MatMulIntegerToFloat", composite(_to_float))
register("com.microsoft::DynamicQuantizeMatMul", composite(_dynamic))
register("com.microsoft::QGemm", composite(_gemm))
for _name in ("DequantizeLinear", "QuantizeLinear"):
    (_newest,) = ops.REGISTRY.get(_name)
    register(f"com.microsoft::{_name}", replace(_newest, since=1))
