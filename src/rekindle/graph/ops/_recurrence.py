"""Recurrent layers on the device: one product for all inputs, then step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rekindle._types import DType
from rekindle.graph.expr import Arg, Expr, call, maximum, minimum, sigmoid
from rekindle.graph.ir import Node, Value
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops._attributes import flag
from rekindle.graph.ops._copies import Walk, copy, row_major

Apply = Callable[[Expr], Expr]

_MAX_STEPS = 256
"""Every step is several launches; longer sequences would only wait for them."""

_EXPRESSIONS: dict[str, Apply] = {
    "Sigmoid": sigmoid,
    "Tanh": lambda x: call("tanh", x),
    "Relu": lambda x: maximum(x, 0.0),
    "HardSigmoid": lambda x: maximum(minimum(x * 0.2 + 0.5, 1.0), 0.0),
    "Softsign": lambda x: x / (call("abs", x) + 1.0),
}

_REFUSED = ("activation_alpha", "activation_beta", "clip")


@dataclass(frozen=True)
class Layer:
    """One direction of a layer while it is described. Gates come first in w, r and biases."""

    lowering: Lowering
    direction: int
    gates: int
    functions: tuple[Apply, ...]

    @property
    def node(self) -> Node:
        return self.lowering.node

    def parameter(self, index: int, row: int, shape: tuple[int, ...]) -> Value:
        """Row `row` of an input's first axis, under another shape."""
        value = self.lowering.input(index)
        if value.static_shape[0] > 1:
            value = self.picked(value, row)
        return self.lowering.view(value, shape)

    def picked(self, x: Value, *rows: int) -> Value:
        """Some rows of the first axis."""
        indices = self.lowering.literal(np.array(rows))
        result = self.lowering.temporary((len(rows), *x.static_shape[1:]), x.dtype)
        return self.lowering.call("gather", (x, indices), result, axis=0)

    def product(self, a: Value, b: Value, added: list[Value]) -> Value:
        """(M, K) by each of (gates, N, K), plus values that broadcast: (gates, M, N)."""
        shape = (b.static_shape[0], a.static_shape[0], b.static_shape[1])
        total: Expr = Arg(0)
        for number in range(len(added)):
            total = total + Arg(number + 1)
        return self.lowering.call(
            "matmul",
            (a, b, *added),
            self.lowering.temporary(shape, a.dtype),
            transpose_a=False,
            transpose_b=True,
            epilogue=total if added else None,
        )

    def elementwise(self, expr: Expr, *values: Value) -> Value:
        shape = values[0].static_shape
        result = self.lowering.temporary(shape, values[0].dtype)
        return self.lowering.call("elementwise", values, result, expr=expr)


def lower(lowering: Lowering, gates: int, names: tuple[str, ...], backwards: list[bool]) -> None:
    """`names`: the activations of one direction; the same for both."""
    node, x = lowering.node, lowering.input(0)
    if x.dtype is not DType.FLOAT32 or flag(node, "input_forget"):
        raise NotLowered(f"{node.op_type} of {x.dtype}, or with coupled gates")
    if lowering.has_input(4) or any(node.attr(key) is not None for key in _REFUSED):
        raise NotLowered(f"{node.op_type} with lengths, or with clipped or bent activations")
    steps = x.static_shape[1 if flag(node, "layout") else 0]
    if not set(names) <= _EXPRESSIONS.keys() or steps > _MAX_STEPS:
        raise NotLowered(f"{node.op_type} of {steps} steps with {', '.join(names)}")
    functions = tuple(_EXPRESSIONS[name] for name in names)
    for direction, back in enumerate(backwards):
        _walk(Layer(lowering, direction, gates, functions), back, len(backwards))


def _walk(layer: Layer, back: bool, directions: int) -> None:
    lowering, d = layer.lowering, layer.direction
    x = _steps_first(lowering)
    length, batch, width = x.static_shape
    hidden = lowering.input(2).static_shape[2]
    w = layer.parameter(1, d, (layer.gates, hidden, width))
    r = layer.parameter(2, d, (layer.gates, hidden, hidden))
    biases = _biases(layer, hidden)
    flat = lowering.view(x, (length * batch, width))
    fed = layer.product(flat, w, biases[:1])
    fed = lowering.view(fed, (layer.gates * length, batch, hidden))
    state, cell = (_start(layer, index, (batch, hidden)) for index in (5, 6))
    y, *ends = lowering.outputs()
    for t in reversed(range(length)) if back else range(length):
        entered = layer.picked(fed, *(gate * length + t for gate in range(layer.gates)))
        if layer.gates == 3:
            state = _gru(layer, entered, layer.product(state, r, biases[1:]), state, r, biases)
        else:
            gates = layer.product(state, r, [entered, *biases[1:]])
            state, cell = _step(layer, gates, cell)
        if y is not None:
            _place(layer, state, y, t * directions + d)
    for value, end in zip((state, cell), ends, strict=False):
        if end is not None:
            _place(layer, value, end, d)


def _biases(layer: Layer, hidden: int) -> list[Value]:
    """Of the input and of the state, each (gates, 1, hidden); none where the node has none."""
    if not layer.lowering.has_input(3):
        return []
    whole = layer.parameter(3, layer.direction, (2, layer.gates, 1, hidden))
    shape = (layer.gates, 1, hidden)
    return [layer.lowering.view(layer.picked(whole, half), shape) for half in (0, 1)]


def _start(layer: Layer, index: int, shape: tuple[int, int]) -> Value:
    if layer.lowering.has_input(index) and flag(layer.node, "layout"):
        given = layer.lowering.input(index)
        start, (batch, hidden) = layer.lowering.temporary(shape, given.dtype), shape
        each = math.prod(given.static_shape[1:])
        source = Walk((each, 1), layer.direction * hidden)
        copy(layer.lowering, given, start, (batch, hidden), source, Walk((hidden, 1)))
        return start
    if layer.lowering.has_input(index):
        return layer.parameter(index, layer.direction, shape)
    return layer.lowering.literal(np.zeros(shape, np.float32))


def _place(layer: Layer, x: Value, out: Value, row: int) -> None:
    """(batch, hidden) as one row of an output; the batch lies before the rows in layout 1."""
    batch, hidden = x.static_shape
    target = Walk((hidden, 1), row * batch * hidden)
    if flag(layer.node, "layout"):
        each = math.prod(out.static_shape[1:])
        target = Walk((each, 1), row * hidden)
    copy(layer.lowering, x, out, (batch, hidden), Walk((hidden, 1)), target)


def _steps_first(lowering: Lowering) -> Value:
    """The sequence as (steps, batch, inputs)."""
    x = lowering.input(0)
    if not flag(lowering.node, "layout"):
        return x
    batch, steps, width = x.static_shape
    shape = (steps, batch, width)
    turned = lowering.temporary(shape, x.dtype)
    copy(lowering, x, turned, shape, Walk((width, steps * width, 1)), Walk(row_major(shape)))
    return turned


def _gate(layer: Layer, gates: Value, index: int) -> Value:
    return layer.lowering.view(layer.picked(gates, index), gates.static_shape[1:])


def _step(layer: Layer, gates: Value, cell: Value) -> tuple[Value, Value]:
    """RNN and LSTM, whose gates are sums."""
    if layer.gates == 1:
        flat = layer.lowering.view(gates, gates.static_shape[1:])
        return layer.elementwise(layer.functions[0](Arg(0)), flat), cell
    f, g, h = layer.functions
    i, o, forget, c = (_gate(layer, gates, index) for index in range(4))
    peep = _peepholes(layer, cell.static_shape[1])
    seen = Arg(3) * Arg(4) if peep else None
    kept = Arg(3) * Arg(5) if peep else None
    entered = f(Arg(0) if seen is None else Arg(0) + seen)
    forgotten = f(Arg(1) if kept is None else Arg(1) + kept)
    new = forgotten * Arg(3) + entered * g(Arg(2))
    cell = layer.elementwise(new, i, forget, c, cell, *(peep[0:1] + peep[2:3]))
    shown = f(Arg(0) + Arg(1) * Arg(2)) if peep else f(Arg(0))
    state = layer.elementwise(shown * h(Arg(1)), o, cell, *peep[1:2])
    return state, cell


def _peepholes(layer: Layer, hidden: int) -> list[Value]:
    """Of the input, output and forget gate, (1, hidden) each."""
    if not layer.lowering.has_input(7):
        return []
    whole = layer.parameter(7, layer.direction, (3, hidden))
    return [layer.picked(whole, index) for index in range(3)]


def _gru(
    layer: Layer, entered: Value, recalled: Value, state: Value, r: Value, biases: list[Value]
) -> Value:
    f, g = layer.functions
    xz, xr, xh = (_gate(layer, entered, index) for index in range(3))
    sz, sr, sh = (_gate(layer, recalled, index) for index in range(3))
    if flag(layer.node, "linear_before_reset"):
        candidate = g(Arg(0) + f(Arg(1) + Arg(2)) * Arg(3))
        proposed = layer.elementwise(candidate, xh, xr, sr, sh)
    else:
        reset = layer.elementwise(f(Arg(0) + Arg(1)) * Arg(2), xr, sr, state)
        last = [layer.picked(b, 2) for b in biases[1:]]
        summed = layer.product(reset, layer.picked(r, 2), last)
        flat = layer.lowering.view(summed, state.static_shape)
        proposed = layer.elementwise(g(Arg(0) + Arg(1)), xh, flat)
    update = f(Arg(0) + Arg(1))
    mixed = (1.0 - update) * Arg(2) + update * Arg(3)
    return layer.elementwise(mixed, xz, sz, proposed, state)
