"""CausalConvWithState: a depthwise convolution over time that remembers where it stopped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Shape
from rekindle.graph.expr import Arg, sigmoid
from rekindle.graph.ir import Array, Node, Value, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import text
from rekindle.graph.ops._convolution import convolution_flops
from rekindle.graph.ops._copies import Walk, copy, row_major
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import optional, required, same_dtype


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, w = required(node, inputs, 0), required(node, inputs, 1)
    dtype = same_dtype(node, (x, w, optional(inputs, 2), optional(inputs, 3)))
    state: Shape | None = None
    if x.shape is not None and w.shape is not None:
        if len(x.shape) != 3 or len(w.shape) != 3:
            raise ModelError(
                f"node {node}: shapes {list(x.shape)} and {list(w.shape)}, expected three axes each"
            )
        if isinstance(w.shape[2], int):
            state = (*x.shape[:2], w.shape[2] - 1)
    return (TensorType(dtype, x.shape), TensorType(dtype, state))


def _activation(node: Node) -> str:
    return text(node, "activation", "none", choices=("none", "silu", "swish"))


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Input (batch, channels, steps), weights (channels, 1, taps); the state comes before."""
    given, w = required(node, inputs, 0), wide(required(node, inputs, 1))
    bias, past = optional(inputs, 2), optional(inputs, 3)
    steps, taps = given.shape[2], w.shape[2]
    before = np.zeros((*given.shape[:2], taps - 1), given.dtype) if past is None else past
    x = np.concatenate((before, given), axis=2)
    y = sum(wide(x)[:, :, tap : tap + steps] * w[:, 0, tap : tap + 1] for tap in range(taps))
    y = np.asarray(y) if bias is None else y + wide(bias)[:, None]
    if _activation(node) != "none":
        y = y / (1 + np.exp(-y))
    return rounded(y, dtype_of(given)), x[:, :, x.shape[2] - (taps - 1) :]


def _lower(lowering: Lowering) -> None:
    x, w, out = lowering.input(0), lowering.input(1), lowering.output
    batch, channels, steps = x.static_shape
    before = w.static_shape[2] - 1
    whole = lowering.temporary((batch, channels, steps + before), x.dtype)
    strides = row_major(whole.static_shape)
    if lowering.has_input(3):
        past = lowering.input(3)
        _copied(lowering, past, whole, Walk(row_major(past.static_shape)), Walk(strides))
    else:
        lowering.call("fill", (), whole, value=0)
    _copied(lowering, x, whole, Walk(row_major(x.static_shape)), Walk(strides, before))
    silent = _activation(lowering.node) == "none"
    lowering.call(
        "conv",
        (whole, w, lowering.input(2) if lowering.has_input(2) else None),
        out,
        strides=(1,),
        pads=(0, 0),
        dilations=(1,),
        group=channels,
        epilogue=None if silent else Arg(0) * sigmoid(Arg(0)),
    )
    state = (*lowering.outputs(), None)[1]
    if state is not None:
        target = Walk(row_major(state.static_shape))
        copy(lowering, whole, state, state.static_shape, Walk(strides, steps), target)


def _copied(lowering: Lowering, x: Value, out: Value, source: Walk, target: Walk) -> None:
    if 0 not in x.static_shape:
        copy(lowering, x, out, x.static_shape, source, target)


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    return convolution_flops(required(node, inputs, 1), outputs[0])


register(
    "CausalConvWithState",
    Operator(since=27, infer=_infer, reference=_reference, lower=_lower, flops=_flops),
)
