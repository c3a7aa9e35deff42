"""What the kernels of chains share: which convolutions follow one another, and how."""

from __future__ import annotations

import math
from dataclasses import replace

from rekindle.engine.kernels import Context
from rekindle.engine.kernels import _conv as conv
from rekindle.engine.kernels._epilogue import operands
from rekindle.engine.kernels._window import window
from rekindle.graph.expr import Arg
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall


def pair(call: LogicalCall) -> tuple[LogicalCall, LogicalCall] | None:
    """The two convolutions of a chain of which the first reads nothing beside x, w and bias."""
    if [part.name for part in call.parts] != ["conv", "conv"]:
        return None
    first, second = call.parts
    return None if operands(first, 3) else (first, second)


def is_plain(call: LogicalCall) -> bool:
    """Whether a `conv` is a product at each pixel: 1 x 1, step 1, no padding, one group."""
    w = call.inputs[1]
    assert w is not None
    return call.params["group"] == 1 and window(call, w.static_shape[2:]).is_pointwise


def gated(call: LogicalCall, context: Context, block: int) -> tuple[LogicalCall, Value] | None:
    """Of x times a gate for each channel and a 1 x 1 `conv` of that: the `conv` as it reads x
    itself, and the gate (N, C, 1, ...). Both lie in blocks of that many channels, stored alike.
    """
    if [part.name for part in call.parts] != ["elementwise", "conv"]:
        return None
    first, product = call.parts
    values = [v for v in first.inputs if v is not None]
    if first.params["expr"] not in (Arg(0) * Arg(1), Arg(1) * Arg(0)) or len(values) != 2:
        return None
    x, gate = sorted(values, key=lambda v: -math.prod(v.static_shape))
    n, c, *space = first.output.static_shape
    shapes = x.static_shape == (n, c, *space), gate.static_shape == (n, c, *(1,) * len(space))
    if not all(shapes) or (gate.layout, gate.dtype) != (x.layout, x.dtype):
        return None
    product = replace(product, inputs=(x, *product.inputs[1:]))
    fits = is_plain(product) and conv.is_constant_planar(product, context)
    return (product, gate) if fits and conv.blocks(product) == (block, block) else None
