"""`chain` on CPUs: a 1 x 1 convolution that widens an image, then the depthwise one behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import Context, Kernel, Launch, register
from rekindle.engine.kernels import _conv as conv
from rekindle.engine.kernels._chain import is_plain, pair
from rekindle.engine.kernels._epilogue import epilogue, middle
from rekindle.engine.kernels._packing import conv_panels, depthwise_taps, padded_vector
from rekindle.engine.kernels._tile import BLOCK, jobs_wanted, vector_width
from rekindle.engine.kernels._weights import BFLOAT16, FLOAT, HALF, INT8, padded_scales
from rekindle.engine.kernels._window import Window
from rekindle.graph.lowering import LogicalCall

_DECODES = (FLOAT, HALF, BFLOAT16, INT8)
_PIXELS = 6
"""Of a tile of the expansion: with one block of channels the most that AVX2's registers hold."""
_MOST_PIXELS, _MOST_COLUMNS = 8, 13
_RING_BYTES = 64 * 1024
"""Most that the rows between may take: an eighth of a second-level cache."""
_WORTH_BYTES = 512 * 1024
"""Less than this between the two stays in the second-level cache, of all images together."""
_SHORTEST_ROW = 4 * _PIXELS
"""Pixels: the last tile of a row lies half over the one before it, where `conv_tiled` has one such
tile in an image. With 28 pixels the pair took 0.75 to 1.03 of the time, with 14 0.88 to 1.15."""
_JOBS_PER_UNIT = 8
"""Fewer than elsewhere: where two jobs meet, rows are computed twice."""


@dataclass(frozen=True)
class _Pair:
    """Both convolutions in numbers."""

    wide: conv.Problem
    deep: conv.Problem

    @property
    def row(self) -> int:
        """Floats of a row in the ring, with the zeros on both sides."""
        win = self.deep.window
        reach = (win.out[1] - 1) * win.strides[1] + win.kernel[1]
        return max(reach, win.pads[1] + win.size[1]) * BLOCK


def _pair(call: LogicalCall, context: Context) -> _Pair | None:
    """What the kernel takes; None: it does not."""
    parts = pair(call)
    if parts is None or not all(conv.is_constant_planar(p, context) for p in parts):
        return None
    if any(conv.blocks(p) != (BLOCK, BLOCK) for p in parts) or not conv.is_depthwise(parts[1]):
        return None
    wide = conv.problem(parts[0], context, decodes=_DECODES)
    deep = conv.problem(parts[1], context)
    fits = is_plain(parts[0]) and wide.weights.scales < 2 and set(deep.window.dilations) == {1}
    return _Pair(wide, deep) if fits else None


def _score(call: LogicalCall, context: Context) -> float:
    if context.target.family != "cpu":
        return 0
    found = _pair(call, context)
    if found is None or found.deep.is_empty:
        return 0
    win = found.deep.window
    pays = found.wide.y.nbytes >= _WORTH_BYTES and win.size[1] >= _SHORTEST_ROW
    return 10.0 * (pays and win.kernel[0] * found.row * 4 <= _RING_BYTES)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    found = _pair(call, context)
    assert found is not None
    wide, deep = found.wide, found.deep
    win, blocks = deep.window, -(-deep.m // BLOCK)
    lanes = vector_width(context.target)
    between, end = middle(call.parts[0], lanes), epilogue(call.parts[1], 3, lanes)
    jobs = min(jobs_wanted(context.target, blocks * deep.n, _JOBS_PER_UNIT), win.out[0])
    rows = -(-win.out[0] // jobs)
    sizes = (
        deep.m, -(-wide.c // BLOCK), *win.size, *win.out, win.strides[0], *win.pads, rows,
    )  # fmt: skip
    scales = wide.weights.scales
    return [
        Launch(
            kernel="pointwise_depthwise_tiled",
            entry="chain",
            defines=(
                ("P", str(_tile(win.size[1], _PIXELS))),
                ("D", str(_tile(win.out[1], _most(win)))),
                ("VW", str(lanes)),
                ("KH", str(win.kernel[0])),
                ("KW", str(win.kernel[1])),
                ("SW", str(win.strides[1])),
                ("ROW", str(found.row)),
                ("NARROW", str(int(wide.x.dtype is not DType.FLOAT32))),
                *wide.weights.defines(),
                wide.defines[0],
                deep.defines[1],
                *between.defines,
                *end.defines,
            ),
            args=(
                wide.x,
                conv_panels(wide, BLOCK, BLOCK),
                padded_vector(wide.bias, wide.bias_array, blocks * BLOCK),
                *((padded_scales(wide.weights, wide.m, blocks * BLOCK),) if scales else ()),
                depthwise_taps(deep.weights, BLOCK),
                padded_vector(deep.bias, deep.bias_array, blocks * BLOCK),
                *map(np.int32, sizes),
                *end.args,
                call.output,
            ),
            global_size=(-(-win.out[0] // rows), blocks, deep.n),
            local_size=(1, 1, 1),
            flops=wide.flops(between.flops) + deep.flops(end.flops),
            bytes_moved=wide.x.nbytes + wide.w.nbytes + deep.w.nbytes + deep.y.nbytes + end.nbytes,
        )
    ]


def _tile(width: int, most: int) -> int:
    """Pixels of a tile along a row of `width`: least waste at its end, then widest."""
    return min(range(1, min(most, width) + 1), key=lambda p: (-(-width // p) * (p + 2), -p))


def _most(win: Window) -> int:
    """Pixels whose columns fit the registers."""
    return max(1, min(_MOST_PIXELS, (_MOST_COLUMNS - win.kernel[1]) // win.strides[1] + 1))


register(
    "pointwise_depthwise_tiled",
    Kernel(call="chain", score=_score, launches=_launches),
)
