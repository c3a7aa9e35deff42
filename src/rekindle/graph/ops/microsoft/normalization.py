"""Normalizations with the sum in front of them, as ONNX Runtime's fusions write them.

`SimplifiedLayerNormalization` stands in ONNX's own domain there, without being part of it: it is
RMSNormalization.
"""

from __future__ import annotations

from rekindle._errors import ModelError
from rekindle.graph.ops import register
from rekindle.graph.ops._attributes import flag, integer, number
from rekindle.graph.ops._composite import Body, composite
from rekindle.graph.ops.microsoft.fused import transposed

NAMES = (
    "SimplifiedLayerNormalization", "com.microsoft::EmbedLayerNormalization",
    "com.microsoft::GroupNorm", "com.microsoft::SkipGroupNorm",
    "com.microsoft::SkipLayerNormalization", "com.microsoft::SkipSimplifiedLayerNormalization",
)  # fmt: skip


def _epsilon(body: Body, default: float) -> float:
    return number(body.node, "epsilon", default)


def _layer(body: Body, x: str, gamma: str, beta: str, epsilon: float) -> tuple[str, ...]:
    return body.calls("LayerNormalization", x, gamma, beta, outputs=3, axis=-1, epsilon=epsilon)


def _simplified(body: Body) -> tuple[str, ...]:
    if body.wants(1):
        raise ModelError(f"node {body.node}: its second output serves training only")
    axis = integer(body.node, "axis", -1)
    y = body.call(
        "RMSNormalization", body.input(0), body.input(1), axis=axis, epsilon=_epsilon(body, 1e-5)
    )
    return (y,)


def _sum(body: Body, bias: str) -> str:
    total = body.call("Add", body.input(0), body.input(1))
    return body.call("Add", total, bias) if bias else total


def _skip(body: Body) -> tuple[str, ...]:
    """Output 3 is the sum that is normalized."""
    total = _sum(body, body.optional(4))
    beta = body.optional(3)
    y = _layer(body, total, body.input(2), beta, _epsilon(body, 1e-12))
    return (*y, total)


def _skip_simplified(body: Body) -> tuple[str, ...]:
    if body.wants(1) or body.wants(2):
        raise ModelError(f"node {body.node}: its second and third output serve training only")
    total = _sum(body, body.optional(3))
    epsilon = _epsilon(body, 1e-12)
    y = body.call("RMSNormalization", total, body.input(2), axis=-1, epsilon=epsilon)
    return (y, "", "", total)


def _embed(body: Body) -> tuple[str, ...]:
    """Words, positions and segments looked up, summed, normalized; and how long each row is."""
    ids = body.input(0)
    total = body.call("Gather", body.input(2), ids, axis=0)
    if body.has(8):
        places = body.call("Gather", body.input(3), body.input(8), axis=0)
    else:
        steps = body.sizes(ids)[1]
        places = body.call("Gather", body.input(3), body.integers(*range(steps)), axis=0)
    total = body.call("Add", total, places)
    if body.has(1):
        segments = body.call("Gather", body.input(4), body.input(1), axis=0)
        total = body.call("Add", total, segments)
    y = _layer(body, total, body.input(5), body.input(6), _epsilon(body, 1e-12))[0]
    lengths = ""
    if body.wants(1):
        lengths = _lengths(body, ids)
    return (y, lengths, total)


def _lengths(body: Body, ids: str) -> str:
    """How many ones each row of the mask has; 0 without a mask."""
    if body.has(7):
        return body.call("ReduceSum", body.input(7), body.integers(1), keepdims=0)
    zeros = body.call("Sub", ids, ids)
    return body.call("ReduceSum", zeros, body.integers(1), keepdims=0)


def _group(body: Body) -> tuple[str, ...]:
    return (_grouped(body, body.input(0)),)


def _grouped(body: Body, x: str) -> str:
    last = flag(body.node, "channels_last", True)
    if last:
        x = transposed(body, x, channels_last=False)
    kind = body.dtype(x)
    weights = [
        w if body.dtype(w) is kind else body.call("CastLike", w, x)
        for w in (body.input(1), body.input(2))
    ]
    y = body.call(
        "GroupNormalization", x, *weights,
        num_groups=integer(body.node, "groups"), epsilon=_epsilon(body, 1e-5),
    )  # fmt: skip
    if integer(body.node, "activation"):
        y = body.call("Mul", y, body.call("Sigmoid", y))
    return transposed(body, y, channels_last=True) if last else y


def _skip_group(body: Body) -> tuple[str, ...]:
    """Output 1 is the sum that is normalized; skip and bias may be one value a channel."""
    if not flag(body.node, "channels_last", True):
        raise ModelError(f"node {body.node}: only channels_last = 1 is known")
    skip = body.input(3)
    if body.rank(skip) == 2:
        rows, channels = body.sizes(skip)
        skip = body.call("Reshape", skip, body.integers(rows, 1, 1, channels))
    total = body.call("Add", body.input(0), skip)
    if body.has(4):
        total = body.call("Add", total, body.input(4))
    return (_grouped(body, total), total)


register("SimplifiedLayerNormalization", composite(_simplified))
register("com.microsoft::EmbedLayerNormalization", composite(_embed))
register("com.microsoft::GroupNorm", composite(_group))
register("com.microsoft::SkipGroupNorm", composite(_skip_group))
register("com.microsoft::SkipLayerNormalization", composite(_skip))
register("com.microsoft::SkipSimplifiedLayerNormalization", composite(_skip_simplified))
