"""`conv` on CPUs, dense or in groups of whole blocks: blocked in, blocked out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import Argument, Context, Kernel, Launch, Variant, register
from rekindle.engine.kernels import _conv as conv
from rekindle.engine.kernels._epilogue import epilogue
from rekindle.engine.kernels._packing import conv_panels, conv_scales, padded_vector, zeros
from rekindle.engine.kernels._pixels import input_of
from rekindle.engine.kernels._tile import (
    BLOCK,
    TUNABLES,
    choose_tile,
    tile_variants,
    vector_width,
)
from rekindle.engine.kernels._weights import (
    BFLOAT16,
    FLOAT,
    HALF,
    INT4,
    INT8,
    padded_scales,
)
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall

_DECODES = (FLOAT, HALF, BFLOAT16, INT8, INT4)


def _score(call: LogicalCall, context: Context) -> float:
    if context.target.family != "cpu" or not conv.is_constant_planar(call, context):
        return 0
    blocked = conv.blocks(call) == (BLOCK, BLOCK)
    return 10.0 * (blocked and conv.groups_to_merge(call, BLOCK, BLOCK) > 0)


def _problem(call: LogicalCall, context: Context) -> conv.Problem:
    return conv.problem(call, context, conv.groups_to_merge(call, BLOCK, BLOCK), decodes=_DECODES)


def _size(problem: conv.Problem) -> tuple[int, int, int]:
    """Positions, blocks of output channels, and how often they come."""
    group = problem.group
    return math.prod(problem.window.out), -(-problem.m // BLOCK) // group, problem.n * group


def _variants(call: LogicalCall, context: Context) -> Sequence[Variant]:
    return tile_variants(context.target, *_size(_problem(call, context)))


def launches(call: LogicalCall, context: Context, gate: Value | None = None) -> Sequence[Launch]:
    """The convolution of x, or, where it is 1 x 1, of x times `gate` (N, C, 1, 1), blocked."""
    problem = _problem(call, context)
    if problem.is_empty:
        return []
    win, m, group = problem.window, problem.m, problem.group
    c_blocks = -(-problem.c_group // BLOCK)
    m_blocks = -(-m // BLOCK)
    tile = choose_tile(context.target, *_size(problem), wanted=context.variant)
    before, x = ([], problem.x) if gate else input_of(problem, tile, context.target)
    width = vector_width(context.target)
    end = epilogue(call, 3, width)
    panel = tile.blocks * BLOCK
    sizes = (
        m, c_blocks * group, c_blocks, m_blocks // group, *win.size, *win.out, *win.kernel,
        *win.strides, *win.pads, *win.dilations, tile.tiles_per_job,
    )  # fmt: skip
    return [
        *before,
        Launch(
            kernel="conv_tiled",
            entry="conv",
            defines=(
                ("P", str(tile.positions)),
                ("Q", str(tile.blocks)),
                ("VW", str(width)),
                ("POINTWISE", str(int(win.is_pointwise or bool(before)))),
                ("PACKED", str(int(bool(before)))),
                ("NARROW", str(int(x is problem.x and x.dtype is not DType.FLOAT32))),
                ("GATED", str(int(gate is not None))),
                *problem.weights.defines(),
                problem.defines[0] if x is problem.x else ("XT", FLOAT),
                problem.defines[1],
                *end.defines,
            ),
            args=(
                x,
                conv_panels(problem, BLOCK, panel),
                padded_vector(problem.bias, problem.bias_array, m_blocks * BLOCK),
                zeros(BLOCK),
                *_scales(problem, panel),
                *((gate,) if gate is not None else ()),
                *map(np.int32, sizes),
                *end.args,
                call.output,
            ),
            global_size=(tile.jobs, m_blocks // tile.blocks, problem.n),
            local_size=(1, 1, 1),
            flops=problem.flops(end.flops),
            bytes_moved=x.nbytes + problem.w.nbytes + problem.y.nbytes + end.nbytes,
        ),
    ]


def _scales(problem: conv.Problem, panel: int) -> tuple[Argument, ...]:
    """The factors, and how many blocks of channels share one."""
    weights = problem.weights
    if not weights.scales:
        return ()
    if weights.scales == 1:
        return padded_scales(weights, problem.m, -(-problem.m // BLOCK) * BLOCK), np.int32(0)
    return conv_scales(problem, panel), np.int32(weights.group // BLOCK)


register(
    "conv_tiled",
    Kernel(call="conv", score=_score, launches=launches, tunables=TUNABLES, variants=_variants),
)
