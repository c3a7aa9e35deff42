"""LRN: local response normalization over neighbouring channels (Krizhevsky et al. 2012)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle.graph.expr import Arg, call
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer, number
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import known_rank, numel, required, same_type

NAMES = ("LRN",)


def _constants(node: Node) -> tuple[float, float, float]:
    """Defaults of the ONNX specification."""
    return number(node, "alpha", 1e-4), number(node, "beta", 0.75), number(node, "bias", 1.0)


def _neighbours(node: Node) -> tuple[int, int, int]:
    """Channels summed, and how many of them lie before and after."""
    size = integer(node, "size")
    return size, (size - 1) // 2, size - 1 - (size - 1) // 2


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    known_rank(node, required(node, inputs, 0), at_least=2)
    return same_type(node, inputs)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    given = required(node, inputs, 0)
    x, (alpha, beta, bias) = wide(given), _constants(node)
    size, before, after = _neighbours(node)
    total = np.empty_like(x)
    for channel in range(x.shape[1]):
        near = x[:, max(channel - before, 0) : channel + after + 1]
        total[:, channel] = (near * near).sum(axis=1)
    return (rounded(x / (bias + alpha / size * total) ** beta, dtype_of(given)),)


def _lower(lowering: Lowering) -> None:
    """The mean of squares is an average pool over channels, seen as (N, 1, C, pixels)."""
    x, (alpha, beta, bias) = lowering.input(0), _constants(lowering.node)
    size, before, after = _neighbours(lowering.node)
    shape = x.static_shape
    plane = (shape[0], 1, shape[1], math.prod(shape[2:]))
    squares = lowering.temporary(shape, x.dtype)
    lowering.call("elementwise", (x,), squares, expr=Arg(0) * Arg(0))
    means = lowering.call(
        "pool",
        (lowering.view(squares, plane),),
        lowering.temporary(plane, x.dtype),
        kind="average",
        kernel=(size, 1),
        strides=(1, 1),
        pads=(before, 0, after, 0),
        dilations=(1, 1),
        count_include_pad=True,
    )
    scaled = Arg(0) / call("pow", Arg(1) * alpha + bias, beta)
    lowering.call("elementwise", (x, lowering.view(means, shape)), lowering.output, expr=scaled)


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    return (2 * integer(node, "size") + 4) * numel(outputs[0].shape)


register("LRN", Operator(since=1, infer=_infer, reference=_reference, lower=_lower, flops=_flops))
