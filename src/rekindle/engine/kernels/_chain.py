"""What the kernels of chains share: which convolutions follow one another, and how."""

from __future__ import annotations

from rekindle.engine.kernels._epilogue import operands
from rekindle.engine.kernels._window import window
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
