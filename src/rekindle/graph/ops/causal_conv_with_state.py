"""CausalConvWithState: a depthwise convolution over time that remembers where it stopped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Shape
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import text
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


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Input (batch, channels, steps), weights (channels, 1, taps); the state comes before."""
    given, w = required(node, inputs, 0), wide(required(node, inputs, 1))
    bias, past = optional(inputs, 2), optional(inputs, 3)
    steps, taps = given.shape[2], w.shape[2]
    before = np.zeros((*given.shape[:2], taps - 1), given.dtype) if past is None else past
    x = np.concatenate((before, given), axis=2)
    y = sum(wide(x)[:, :, tap : tap + steps] * w[:, 0, tap : tap + 1] for tap in range(taps))
    y = np.asarray(y) if bias is None else y + wide(bias)[:, None]
    if text(node, "activation", "none", choices=("none", "silu", "swish")) != "none":
        y = y / (1 + np.exp(-y))
    return rounded(y, dtype_of(given)), x[:, :, x.shape[2] - (taps - 1) :]


register("CausalConvWithState", Operator(since=27, infer=_infer, reference=_reference))
