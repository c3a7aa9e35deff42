"""`conv` on GPUs with one kernel a channel (group = C = M): blocked in, blocked out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle.engine.kernels import Context, Isa, Kernel, Launch, register
from rekindle.engine.kernels import _conv as conv
from rekindle.engine.kernels._epilogue import epilogue
from rekindle.engine.kernels._packing import depthwise_taps, padded_vector, zeros
from rekindle.graph.lowering import LogicalCall

BLOCK = 4
_WAVE = 64
_MOST_TAPS = 121
"""Taps that are unrolled."""


def _score(call: LogicalCall, context: Context) -> float:
    if context.target.family == "cpu" or not conv.is_constant_planar(call, context):
        return 0
    if conv.blocks(call) != (BLOCK, BLOCK) or not conv.is_depthwise(call):
        return 0
    return 20.0 * (math.prod(conv.problem(call, context).window.kernel) <= _MOST_TAPS)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    problem = conv.problem(call, context)
    if problem.is_empty:
        return []
    win, blocks = problem.window, -(-problem.c // BLOCK)
    end = epilogue(call, 3, BLOCK)
    sizes = (problem.c, *win.size, *win.out, *win.strides, *win.pads, *win.dilations)
    return [
        Launch(
            kernel="depthwise_lanes",
            entry="depthwise",
            defines=(
                ("KH", str(win.kernel[0])),
                ("KW", str(win.kernel[1])),
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
            global_size=(-(-math.prod(win.out) // _WAVE) * _WAVE, blocks, problem.n),
            local_size=(_WAVE, 1, 1),
            flops=problem.flops(end.flops),
            bytes_moved=problem.nbytes + end.nbytes,
        )
    ]


register(
    "depthwise_lanes",
    Kernel(
        call="conv",
        score=_score,
        launches=_launches,
        tunables={},
        isa=Isa(
            multiply_adds=0.12,  # every tap has its own bounds; halves are decoded besides
            waves=2,
        ),
    ),
)
