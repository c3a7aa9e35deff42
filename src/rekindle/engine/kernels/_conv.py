"""What the convolution kernels for constant weights share: a call's sizes, and what fits whom."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from rekindle.engine.kernels import Context
from rekindle.engine.kernels._epilogue import takes, vectorizes
from rekindle.engine.kernels._render import SINGLE, storage_type
from rekindle.engine.kernels._weights import FLOAT, Weights, weights_of
from rekindle.engine.kernels._window import Window, window
from rekindle.graph.decode import Decode
from rekindle.graph.ir import Array, Value
from rekindle.graph.lowering import LogicalCall

_MOST_MERGED = 32
"""Groups made one, at most: a dense kernel is some hundred times as fast as `conv_direct`."""


@dataclass(frozen=True)
class Problem:
    """A `conv` call with constant weights and bias, its space as two axes.

    Where blocks of channels would hold parts of two groups, `merged` neighbouring groups count as
    one, whose filters are zero on the channels of the others. `group` is the number that is left.
    """

    x: Value
    w: Value
    bias: Value | None
    y: Value
    weights: Weights
    """(M, channels of an unmerged group, KH, KW)."""
    bias_array: Array | None
    window: Window
    group: int
    merged: int

    @property
    def n(self) -> int:
        return self.x.static_shape[0]

    @property
    def c(self) -> int:
        return self.x.static_shape[1]

    @property
    def c_group(self) -> int:
        return int(self.weights.array.shape[1]) * self.merged

    @property
    def m_group(self) -> int:
        return self.m // self.group

    @property
    def m(self) -> int:
        return int(self.weights.array.shape[0])

    @property
    def plane(self) -> int:
        """Positions of an output channel."""
        return math.prod(self.window.out)

    @property
    def defines(self) -> tuple[tuple[str, str], ...]:
        """XT, YT: how x and y are stored."""
        return ("XT", storage_type(self.x.dtype)), ("YT", storage_type(self.y.dtype))

    @property
    def is_empty(self) -> bool:
        return 0 in self.y.static_shape

    @property
    def nbytes(self) -> int:
        """Bytes of input, weights and output."""
        return self.x.nbytes + self.w.nbytes + self.y.nbytes

    def flops(self, each: int) -> int:
        """Two for each multiply-add, and `each` for every output."""
        outputs = math.prod(self.y.static_shape)
        return outputs * (2 * math.prod(self.w.static_shape[1:]) + each)


def problem(
    call: LogicalCall,
    context: Context,
    merged: int = 1,
    *,
    decodes: Collection[str] = (FLOAT,),
) -> Problem:
    """The call in numbers; it must satisfy `is_constant_planar`.

    `decodes`: the storage types of weights that the kernel's source takes (see `_weights`).
    """
    x, w, bias = call.inputs[:3]
    assert x is not None
    assert w is not None
    array = context.constant(w.name)
    assert array is not None
    win = window(call, array.shape[2:])
    if win.is_pointwise:
        win = win.flattened()
    decode: Decode | None = call.params.get("decode")
    if decode is not None:
        decode = replace(decode, scale=_planar(decode.scale))
    weights = weights_of(w.name, _planar(array), decode, decodes, whole=merged == 1)
    return Problem(
        x, w, bias, call.output, weights, context.constant(bias.name) if bias else None,
        win.lifted(2), call.params["group"] // merged, merged,
    )  # fmt: skip


def _planar(w: Array) -> Array:
    """(M, C, KH, KW): one axis becomes the second; the axes of a 1 x 1 x ... window are one."""
    if w.ndim == 3:
        return w[:, :, None]
    return w if w.ndim == 4 else w.reshape(*w.shape[:2], 1, 1)


def is_constant_planar(call: LogicalCall, context: Context) -> bool:
    """Floats, weights and bias known now, two spatial axes or one (or any, for 1 x 1).

    And an epilogue that works on vectors.
    """
    x, w, bias = call.inputs[:3]
    assert x is not None
    assert w is not None
    known = all(context.constant(v.name) is not None for v in (w, bias) if v)
    if not known or not has_floats(call):
        return False
    planar = len(x.static_shape) <= 4 or window(call, w.static_shape[2:]).is_pointwise
    return planar and len(x.static_shape) >= 3 and takes(call, 3) and vectorizes(call, 3)


def has_floats(call: LogicalCall) -> bool:
    """Whether all values are floats of 32 or 16 bits, but for weights with a decoding."""
    x, w, bias = call.inputs[:3]
    checked = [x, None if call.params.get("decode") is not None else w, bias, call.output]
    return all(v.dtype in SINGLE for v in checked if v)


def blocks(call: LogicalCall) -> tuple[int, int]:
    """Channel blocks of the input and the output; 0: row-major."""
    x = call.inputs[0]
    assert x is not None
    return x.layout.block, call.output.layout.block


def is_depthwise(call: LogicalCall) -> bool:
    """Every channel by itself, one output channel each."""
    x, w = call.inputs[:2]
    assert x is not None
    assert w is not None
    group: int = call.params["group"]
    return group == x.static_shape[1] == w.static_shape[0] and group > 1


def groups_to_merge(call: LogicalCall, c_block: int, m_block: int) -> int:
    """How many groups must count as one for none to share a block; 0: too many."""
    x, w = call.inputs[:2]
    assert x is not None
    assert w is not None
    group: int = call.params["group"]
    m, c_group = w.static_shape[:2]
    for merged in range(1, min(group, _MOST_MERGED) + 1):
        fits = c_group * merged % c_block == 0 and m // group * merged % m_block == 0
        if group % merged == 0 and (fits or merged == group):
            return merged
    return 0
