"""`conv` on GPUs, dense or in groups: blocked or row-major in, blocked out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import Target
from rekindle.engine.kernels import Context, Isa, Kernel, Launch, Packed, Variant, register
from rekindle.engine.kernels import _conv as conv
from rekindle.engine.kernels._epilogue import epilogue
from rekindle.engine.kernels._packing import conv_panels, padded_vector, zeros
from rekindle.engine.kernels._weights import BFLOAT16, FLOAT, padded_scales
from rekindle.graph.lowering import LogicalCall

BLOCK = 4
_WAVE = 64
_DECODES = (FLOAT, BFLOAT16)
"""On the scalar unit a bfloat16 is decoded for nothing, where a half takes vector loads (27 % of
peak on gfx803) and a byte three instructions for one multiply-add: halves are widened, and integers
of eight bits become bfloat16, which has all of them."""
_PANELS = (32, 16, 8, 4)
_WAVES_PER_UNIT = 4
"""A compute unit has four SIMDs: fewer waves leave some idle."""


def _score(call: LogicalCall, context: Context) -> float:
    if context.target.family == "cpu" or not conv.is_constant_planar(call, context):
        return 0
    x_block, y_block = conv.blocks(call)
    if y_block != BLOCK or x_block not in (0, BLOCK):
        return 0
    return 10.0 * (conv.groups_to_merge(call, x_block or 1, BLOCK) > 0)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    x_block = conv.blocks(call)[0] or 1
    merged = conv.groups_to_merge(call, x_block, BLOCK)
    problem = conv.problem(call, context, merged, decodes=_DECODES)
    if problem.is_empty:
        return []
    win, m, group = problem.window, problem.m, problem.group
    c_blocks = -(-problem.c_group // x_block)
    waves = -(-math.prod(win.out) // _WAVE)
    panel = context.setting("TM", _panels(context.target, m, group, waves * problem.n)[0])
    end = epilogue(call, 3, BLOCK)
    sizes = (
        m, c_blocks * group, c_blocks, problem.m_group, *win.size, *win.out, *win.kernel,
        *win.strides, *win.pads, *win.dilations,
    )  # fmt: skip
    return [
        Launch(
            kernel="conv_lanes",
            entry="conv",
            defines=(
                ("TM", str(panel)),
                ("XB", str(x_block)),
                ("WT", problem.weights.storage),
                ("SCALES", str(problem.weights.scales)),
                *problem.defines,
                *end.defines,
            ),
            args=(
                problem.x,
                conv_panels(problem, x_block, panel, taps_first=True),
                padded_vector(problem.bias, problem.bias_array, -(-m // BLOCK) * BLOCK),
                zeros(BLOCK),
                *_scales(problem),
                *map(np.int32, sizes),
                *end.args,
                call.output,
            ),
            global_size=(waves * _WAVE, -(-m // panel), problem.n),
            local_size=(_WAVE, 1, 1),
            flops=problem.flops(end.flops),
            bytes_moved=problem.nbytes + end.nbytes,
        )
    ]


def _scales(problem: conv.Problem) -> tuple[Packed, ...]:
    weights = problem.weights
    if not weights.scales:
        return ()
    return (padded_scales(weights, problem.m, -(-problem.m // BLOCK) * BLOCK),)


def _panels(target: Target, m: int, group: int, waves: int) -> list[int]:
    """Output channels a lane sums: as many as leave enough waves first, for each loads x once."""
    fitting = [tm for tm in _PANELS if group == 1 or m // group % tm == 0]
    enough = _WAVES_PER_UNIT * target.compute_units
    best = next((tm for tm in fitting if waves * -(-m // tm) >= enough), fitting[-1])
    return sorted(fitting, key=lambda tm: (tm != best, abs(tm - best)))


def _variants(call: LogicalCall, context: Context) -> Sequence[Variant]:
    merged = conv.groups_to_merge(call, conv.blocks(call)[0] or 1, BLOCK)
    problem = conv.problem(call, context, merged, decodes=_DECODES)
    waves = -(-math.prod(problem.window.out) // _WAVE) * problem.n
    panels = _panels(context.target, problem.m, problem.group, waves)
    return [(("TM", tm),) for tm in panels]


register(
    "conv_lanes",
    Kernel(
        call="conv",
        score=_score,
        launches=_launches,
        tunables={"TM": _PANELS},
        variants=_variants,
        isa=Isa(
            multiply_adds=0.94,
            variants={
                ("TM", "4"): 0.66,  # two of 6 or 18 instructions move the pointer
                ("TM", "8"): 0.80,
                ("TM", "32"): 0.78,  # 98 scalar registers are not enough: they spill to lanes
            },
        ),
    ),
)
