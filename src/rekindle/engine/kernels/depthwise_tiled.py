"""`conv` on CPUs with one kernel a channel (group = C = M): blocked in, blocked out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle.engine.kernels import Context, Kernel, Launch, Variant, register
from rekindle.engine.kernels import _conv as conv
from rekindle.engine.kernels._epilogue import epilogue
from rekindle.engine.kernels._packing import depthwise_taps, padded_vector, zeros
from rekindle.engine.kernels._tile import BLOCK, JOBS, jobs_wanted, vector_width
from rekindle.engine.kernels._window import Window
from rekindle.graph.lowering import LogicalCall

_MOST_COLUMNS = 13
"""Input columns of a tile: each has a pointer, and scalar registers hold about that many."""
_MOST_PIXELS = 8
_WIDEST_WINDOW = 40
"""Columns of one pixel's window; a wider one unrolls into too much code."""


def _score(call: LogicalCall, context: Context) -> float:
    if context.target.family != "cpu" or not conv.is_constant_planar(call, context):
        return 0
    if conv.blocks(call) != (BLOCK, BLOCK) or not conv.is_depthwise(call):
        return 0
    win = conv.problem(call, context).window
    return 20.0 * ((win.kernel[1] - 1) * win.dilations[1] < _WIDEST_WINDOW)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    problem = conv.problem(call, context)
    if problem.is_empty:
        return []
    win, blocks = problem.window, -(-problem.c // BLOCK)
    rows = _rows(problem, context, context.setting("JOBS", JOBS[0]))
    lanes = vector_width(context.target)
    end = epilogue(call, 3, lanes)
    sizes = (
        problem.c, *win.size, *win.out, win.kernel[0], win.strides[0], *win.pads,
        win.dilations[0], rows,
    )  # fmt: skip
    pixels = context.setting("P", _pixels(win)[0])
    return [
        Launch(
            kernel="depthwise_tiled",
            entry="depthwise",
            defines=(
                ("P", str(pixels)),
                ("VW", str(lanes)),
                ("KW", str(win.kernel[1])),
                ("SW", str(win.strides[1])),
                ("DW", str(win.dilations[1])),
                *problem.defines,
                *end.defines,
            ),
            args=(
                problem.x,
                depthwise_taps(problem.weights, BLOCK),
                padded_vector(problem.bias, problem.bias_array, blocks * BLOCK),
                zeros(BLOCK),
                *map(np.int32, sizes),
                *end.args,
                call.output,
            ),
            global_size=(-(-win.out[0] // rows), blocks, problem.n),
            local_size=(1, 1, 1),
            flops=problem.flops(end.flops),
            bytes_moved=problem.nbytes + end.nbytes,
        )
    ]


def _pixels(win: Window) -> list[int]:
    """Pixels of a tile: least waste at the end of a row first, then widest."""
    width, most = win.out[1], _MOST_PIXELS
    reach = (win.kernel[1] - 1) * win.dilations[1] + 1
    while most > 1 and (most - 1) * win.strides[1] + reach > _MOST_COLUMNS:
        most -= 1
    return sorted(range(1, min(most, width) + 1), key=lambda p: (-(-width // p) * (p + 2), -p))


def _rows(problem: conv.Problem, context: Context, jobs: int) -> int:
    """Rows of a job, for so many jobs a unit."""
    height = problem.window.out[0]
    columns = -(-problem.c // BLOCK) * problem.n
    return -(-height // min(jobs_wanted(context.target, columns, jobs), height))


def _variants(call: LogicalCall, context: Context) -> Sequence[Variant]:
    problem = conv.problem(call, context)
    cuts: dict[int, int] = {}
    for jobs in JOBS:
        cuts.setdefault(_rows(problem, context, jobs), jobs)
    return [(("P", p), ("JOBS", jobs)) for jobs in cuts.values() for p in _pixels(problem.window)]


register(
    "depthwise_tiled",
    Kernel(
        call="conv",
        score=_score,
        launches=_launches,
        tunables={"P": range(1, _MOST_PIXELS + 1), "JOBS": JOBS},
        variants=_variants,
    ),
)
