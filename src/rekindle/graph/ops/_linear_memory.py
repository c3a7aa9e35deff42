"""LinearAttention on the device: its memory is carried from step to step, in float32."""

from __future__ import annotations

import math

import numpy as np

from rekindle._types import DType
from rekindle.graph.expr import Arg, Cast, Expr, exp
from rekindle.graph.ir import Value
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops._copies import Walk, copy, row_major

_WORKING = DType.FLOAT32
_MAX_STEPS = 256
"""Every step is several launches; longer sequences would only wait for them."""


def lower_steps(lowering: Lowering, queries: int, heads: int, scale: float) -> None:
    """Inputs as in the reference; `scale` 0: one over the root of the key size."""
    batch, steps, width = lowering.input(0).static_shape
    if steps > _MAX_STEPS or DType.FLOAT64 in (v.dtype for v in lowering.inputs if v):
        raise NotLowered(f"{lowering.node.op_type} of {steps} steps")
    keys, values = width // queries, lowering.input(2).static_shape[2] // heads
    q, k, v = (_by_step(lowering, index) for index in range(3))
    decay = _by_step(lowering, 4) if lowering.has_input(4) else None
    beta = _by_step(lowering, 5) if lowering.has_input(5) else None
    state, shared = _start(lowering, (batch, heads, keys, values)), queries // heads
    out = lowering.output
    y = out if out.dtype is _WORKING else lowering.temporary(out.static_shape, _WORKING)
    for t in range(steps):
        key, new = _row(lowering, k, t), _row(lowering, v, t, (batch, heads, 1, values))
        if decay is not None:
            gates = _row(lowering, decay, t)
            each = math.prod(gates.static_shape) // (batch * heads)
            gate = lowering.view(gates, (batch, heads, each, 1))
            state = _call(lowering, Arg(0) * exp(Arg(1)), state, gate)
        if beta is not None:
            found = _product(lowering, lowering.view(key, (batch, heads, 1, keys)), state, 1.0)
            part = _row(lowering, beta, t)
            rates = math.prod(part.static_shape) // batch
            rate = lowering.view(part, (batch, rates, 1, 1))
            new = _call(lowering, (Arg(0) - Arg(1)) * Arg(2), new, found, rate)
        column = lowering.view(key, (batch, heads, keys, 1))
        state = _call(lowering, Arg(0) + Arg(1) * Arg(2), state, column, new)
        asked = _row(lowering, q, t, (batch, heads, shared, keys))
        read = _product(lowering, asked, state, scale or 1 / math.sqrt(keys))
        line = queries * values
        target = Walk((steps * line, 1), t * line)
        copy(lowering, read, y, (batch, line), Walk(row_major((batch, line))), target)
    if y is not out:
        lowering.call("elementwise", (y,), out, expr=Cast(out.dtype, Arg(0)))
    _keep(lowering, state)


def _by_step(lowering: Lowering, index: int) -> Value:
    """(batch, steps, n) as (steps, batch, n), in float32."""
    x = lowering.input(index)
    batch, steps, width = x.static_shape
    if x.dtype is not _WORKING:
        wide = lowering.temporary(x.static_shape, _WORKING)
        x = lowering.call("elementwise", (x,), wide, expr=Cast(_WORKING, Arg(0)))
    shape = (steps, batch, width)
    turned = lowering.temporary(shape, _WORKING)
    copy(lowering, x, turned, shape, Walk((width, steps * width, 1)), Walk(row_major(shape)))
    return turned


def _row(lowering: Lowering, x: Value, t: int, shape: tuple[int, ...] | None = None) -> Value:
    row = lowering.temporary((1, *x.static_shape[1:]), x.dtype)
    lowering.call("gather", (x, lowering.literal(np.array([t]))), row, axis=0)
    return lowering.view(row, shape or x.static_shape[1:])


def _start(lowering: Lowering, shape: tuple[int, ...]) -> Value:
    if not lowering.has_input(3):
        return lowering.literal(np.zeros(shape, np.float32))
    past = lowering.input(3)
    if past.dtype is _WORKING:
        return past
    wide = lowering.temporary(shape, _WORKING)
    return lowering.call("elementwise", (past,), wide, expr=Cast(_WORKING, Arg(0)))


def _call(lowering: Lowering, expr: Expr, *values: Value) -> Value:
    result = lowering.temporary(values[0].static_shape, _WORKING)
    return lowering.call("elementwise", values, result, expr=expr)


def _product(lowering: Lowering, a: Value, b: Value, scale: float) -> Value:
    shape = (*a.static_shape[:-1], b.static_shape[-1])
    return lowering.call(
        "matmul",
        (a, b),
        lowering.temporary(shape, _WORKING),
        transpose_a=False,
        transpose_b=False,
        epilogue=None if scale == 1.0 else Arg(0) * scale,
    )


def _keep(lowering: Lowering, state: Value) -> None:
    present = (*lowering.outputs(), None)[1]
    if present is not None:
        expr: Expr = Arg(0) if present.dtype is _WORKING else Cast(present.dtype, Arg(0))
        lowering.call("elementwise", (state,), present, expr=expr)
