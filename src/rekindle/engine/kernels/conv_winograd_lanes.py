"""`conv` of filters 3 wide, stride 1 along the row, on GPUs by Winograd's filtering of rows.

F(4, 3) takes 6 multiply-adds for 4 sums of 3 products (Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016), here along the rows only: the two-dimensional form has
36 points for 16 pixels, more than the registers of a lane, or three launches whose points go
through memory, which pays from some 150 channels up. Weights take twice the room, so narrow ones
stay with the plain sum; one NaN or infinity spreads over its tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from rekindle._types import Target
from rekindle.engine.kernels import Context, Floor, Isa, Kernel, Launch, Packed, Variant, register
from rekindle.engine.kernels import _conv as conv
from rekindle.engine.kernels._conv import Problem
from rekindle.engine.kernels._epilogue import NOTHING, epilogue
from rekindle.engine.kernels._packing import zeros
from rekindle.engine.kernels._slices import (
    BLOCK,
    MOST_SLICES,
    WAVE,
    Cut,
    Loop,
    clocks,
    plain_cuts,
    slicings,
    sum_clocks,
    sum_launch,
    vectors,
    workspace,
)
from rekindle.engine.kernels._weights import FLOAT
from rekindle.engine.kernels._winograd import FILTERS
from rekindle.graph.ir import Array
from rekindle.graph.lowering import LogicalCall

_TILE, _POINTS, _TAPS = 4, 6, 3
_PANEL = 8
"""Output channels of a lane: 48 sums, and 12 would not leave two waves."""
_WAVES = 2
_TRIP, _LATENCY = BLOCK * (12 + _POINTS * _PANEL) + 12, 1350
"""For a block of channels: vector instructions (transforms, products, pointers), and the clocks
that a wave waits for x and for weights."""
_ROW, _ONCE = 60, 400
"""Vector instructions besides: of each row of filters, of a lane."""


def _score(call: LogicalCall, context: Context) -> float:
    """Above the plain sum's where it is expected to be faster, else below it."""
    if call.params.get("exact") or context.target.family == "cpu":
        return 0
    if not conv.is_constant_planar(call, context) or conv.blocks(call) != (BLOCK, BLOCK):
        return 0
    problem = conv.problem(call, context, decodes=(FLOAT,))
    win = problem.window
    narrow = call.params.get("decode") is not None or problem.w.dtype.itemsize < 4
    if call.params["group"] != 1 or narrow or problem.is_empty:
        return 0
    if (win.kernel[1], win.strides[1], win.dilations[1]) != (_TAPS, 1, 1):
        return 0
    plain = plain_cuts(problem, BLOCK, context.target)[0]
    return 20.0 if _cuts(problem, context.target)[0].clocks < plain.clocks else 5.0


def _cuts(problem: Problem, target: Target) -> list[Cut]:
    """Numbers of slices, that with the fewest clocks first."""
    cuts = []
    rows, waves = problem.window.kernel[0], -(-_tiles(problem) // WAVE)
    for slices, each in slicings(-(-problem.c // BLOCK)):
        loop = Loop(rows * each, _TRIP, _ONCE + rows * _ROW, _WAVES, _LATENCY)
        count = waves * -(-problem.m // _PANEL) * slices
        cost = clocks(loop, count, target) + sum_clocks(workspace(problem, slices).nbytes, slices)
        cuts.append(Cut(cost, _PANEL, slices, each))
    return sorted(cuts, key=lambda cut: cut.clocks)


def _variants(call: LogicalCall, context: Context) -> Sequence[Variant]:
    cuts = _cuts(conv.problem(call, context, decodes=(FLOAT,)), context.target)
    return [(("SLICES", cut.slices),) for cut in cuts]


def _tiles(problem: Problem) -> int:
    height, width = problem.window.out
    return problem.n * height * -(-width // _TILE)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    problem = conv.problem(call, context, decodes=(FLOAT,))
    if problem.is_empty:
        return []
    cuts = _cuts(problem, context.target)
    wanted = context.setting("SLICES", cuts[0].slices)
    cut = next((c for c in cuts if c.slices == wanted), cuts[0])
    count, sliced, win = cut.slices, cut.slices > 1, problem.window
    end, slices = epilogue(call, 3, BLOCK), workspace(problem, count)
    sizes = (
        problem.n, problem.m, problem.c, cut.blocks, *win.size, *win.out,
        -(-win.out[1] // _TILE), win.kernel[0], win.strides[0], *win.pads, win.dilations[0],
    )  # fmt: skip
    product = Launch(
        kernel="conv_winograd_lanes",
        entry="conv",
        defines=(
            ("TM", str(_PANEL)),
            ("SLICED", str(int(sliced))),
            problem.defines[0],
            ("YT", FLOAT) if sliced else problem.defines[1],
            *(NOTHING if sliced else end.defines),
        ),
        args=(
            problem.x,
            _filters(problem),
            *(() if sliced else vectors(problem)),
            zeros(BLOCK),
            *map(np.int32, sizes),
            *(() if sliced else end.args),
            slices if sliced else call.output,
        ),
        global_size=(-(-_tiles(problem) // WAVE) * WAVE, -(-problem.m // _PANEL), count),
        local_size=(WAVE, 1, 1),
        flops=problem.flops(0 if sliced else end.flops),
        bytes_moved=problem.nbytes + problem.w.nbytes + (slices.nbytes if sliced else end.nbytes),
    )
    return [product, sum_launch(problem, slices, count, end)] if sliced else [product]


def _filters(problem: Problem) -> Packed:
    """Rows of filters G w as (M / TM, KH, C / 4, 4 c, 6 points, TM m), zero past M and C."""
    m, c, height, _ = problem.weights.array.shape
    panels, blocks = -(-m // _PANEL), -(-c // BLOCK)
    count = panels * _PANEL * height * blocks * BLOCK * _POINTS

    def arrange() -> Array:
        # In double: the thirds and sixths of G are rounded once.
        points = problem.weights.array.astype(np.float64) @ np.array(FILTERS[_TILE]).T
        pads = [(0, panels * _PANEL - m), (0, blocks * BLOCK - c), (0, 0), (0, 0)]
        full = np.pad(points, pads).reshape(panels, _PANEL, blocks, BLOCK, height, _POINTS)
        return full.transpose(0, 4, 2, 3, 5, 1)

    weights = replace(problem.weights, storage=FLOAT)
    return weights.packed(f"winograd_rows{_TILE}x{_PANEL}", count, arrange)


def _direct(defines: Mapping[str, str]) -> int:
    """What a trip does for 4 channels: 4 pixels of 3 products, for each output channel."""
    return 0 if "SUMS" in defines else BLOCK * _TILE * _TAPS * _PANEL


register(
    "conv_winograd_lanes",
    Kernel(
        call="conv",
        score=_score,
        launches=_launches,
        tunables={"SLICES": range(1, MOST_SLICES + 1)},
        variants=_variants,
        isa=Isa(
            multiply_adds=1.4,
            direct=_direct,
            variants={("SUMS", "1"): Floor(0, "the sum of slices multiplies nothing")},
            waves=2,  # 48 sums, 24 values of x and 18 registers of addresses
        ),
    ),
)
