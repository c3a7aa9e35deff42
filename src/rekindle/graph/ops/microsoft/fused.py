"""Convolutions and products with what follows them, as ONNX Runtime's fusions write them."""

from __future__ import annotations

from typing import Any

from rekindle._errors import ModelError
from rekindle.graph.ops import register
from rekindle.graph.ops._attributes import flag, number
from rekindle.graph.ops._composite import Body, composite

NAMES = (
    "com.microsoft::FusedConv", "com.microsoft::FusedGemm", "com.microsoft::FusedMatMul",
    "com.microsoft::FusedMatMulActivation", "com.microsoft::NhwcConv",
    "com.microsoft::NhwcFusedConv", "com.microsoft::NhwcMaxPool",
    "com.microsoft::TransposeMatMul",
)  # fmt: skip

_WITHOUT = ("Relu", "Sigmoid", "Tanh", "HardSwish", "Softplus", "Softsign")
_WITH = {
    "LeakyRelu": ("alpha",), "Elu": ("alpha",), "ThresholdedRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"), "Selu": ("alpha", "gamma"),
}  # fmt: skip
_WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def _activated(body: Body, x: str, params: tuple[float, ...]) -> str:
    """Apply the node's activation to x; its parameters come in ONNX's own order."""
    name = body.node.attr("activation", "")
    if not name:
        return x
    if name in _WITHOUT:
        return body.call(name, x)
    if name in _WITH:
        given: dict[str, Any] = dict(zip(_WITH[name], params, strict=False))
        return body.call(name, x, **given)
    if name == "Clip" and len(params) == 2:
        return body.call("Clip", x, *(body.number(p, x) for p in params))
    raise ModelError(
        f"node {body.node}: its activation is {name!r} with {len(params)} parameters; known: "
        f"{', '.join((*_WITHOUT, *_WITH, 'Clip'))}"
    )


def _conv(body: Body) -> tuple[str, ...]:
    """activation(conv(x, w, b) + z)."""
    attrs = {k: v for k, v in body.node.attrs.items() if k in _WINDOW}
    y = body.call("Conv", body.input(0), body.input(1), body.optional(2), **attrs)
    if body.has(3):
        y = body.call("Add", y, body.input(3))
    return (_activated(body, y, tuple(body.node.attr("activation_params", ()))),)


def transposed(body: Body, x: str, *, channels_last: bool) -> str:
    """(N, C, ...) of (N, ..., C), or back."""
    rank = body.rank(x)
    to = (0, *range(2, rank), 1) if channels_last else (0, rank - 1, *range(1, rank - 1))
    return body.call("Transpose", x, perm=to)


def _nhwc_conv(body: Body) -> tuple[str, ...]:
    """As FusedConv, images with channels last; the weights lie as ever."""
    attrs = {k: v for k, v in body.node.attrs.items() if k in _WINDOW}
    x = transposed(body, body.input(0), channels_last=False)
    y = body.call("Conv", x, body.input(1), body.optional(2), **attrs)
    if body.has(3):
        y = body.call("Add", y, transposed(body, body.input(3), channels_last=False))
    y = _activated(body, y, tuple(body.node.attr("activation_params", ())))
    return (transposed(body, y, channels_last=True),)


def _nhwc_pool(body: Body) -> tuple[str, ...]:
    x = transposed(body, body.input(0), channels_last=False)
    attrs = {k: v for k, v in body.node.attrs.items() if k in (*_WINDOW, "ceil_mode")}
    return (transposed(body, body.call("MaxPool", x, **attrs), channels_last=True),)


def _parameters(body: Body) -> tuple[float, ...]:
    letters = ("alpha", "gamma") if body.node.attr("activation") == "Selu" else ("alpha", "beta")
    keys = (f"activation_{letter}" for letter in letters)
    return tuple(number(body.node, k) for k in keys if body.node.attr(k) is not None)


def _gemm(body: Body) -> tuple[str, ...]:
    keys = ("alpha", "beta", "transA", "transB")
    attrs = {k: v for k, v in body.node.attrs.items() if k in keys}
    y = body.call("Gemm", body.input(0), body.input(1), body.optional(2), **attrs)
    return (_activated(body, y, _parameters(body)),)


def _matmul(body: Body) -> tuple[str, ...]:
    """The product alpha * A' * B'; `transBatch` first moves axis 0 behind the batch axes."""
    operands = []
    for index, letter in enumerate("AB"):
        x = body.input(index)
        if flag(body.node, f"transBatch{letter}"):
            rank = body.rank(x)
            x = body.call("Transpose", x, perm=(*range(1, rank - 1), 0, rank - 1))
        operands.append(x)
    a, b = operands
    y = body.product(
        a, b, transpose_a=flag(body.node, "transA"), transpose_b=flag(body.node, "transB")
    )
    alpha = number(body.node, "alpha", 1.0)
    if alpha != 1.0:
        y = body.call("Mul", y, body.number(alpha, y))
    return (_activated(body, y, _parameters(body)),)


register("com.microsoft::FusedConv", composite(_conv))
register("com.microsoft::FusedGemm", composite(_gemm))
register("com.microsoft::FusedMatMul", composite(_matmul))
register("com.microsoft::FusedMatMulActivation", composite(_matmul))
register("com.microsoft::NhwcConv", composite(_nhwc_conv))
register("com.microsoft::NhwcFusedConv", composite(_nhwc_conv))
register("com.microsoft::NhwcMaxPool", composite(_nhwc_pool))
register("com.microsoft::TransposeMatMul", composite(_matmul))
