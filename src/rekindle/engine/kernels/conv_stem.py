"""`conv` on CPUs, as a network's first layer has it: row-major in, blocked out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle.engine.kernels import Context, Kernel, Launch, Variant, register
from rekindle.engine.kernels import _conv as conv
from rekindle.engine.kernels._epilogue import epilogue
from rekindle.engine.kernels._packing import conv_panels, padded_vector
from rekindle.engine.kernels._tile import BLOCK, TUNABLES, choose_tile, tile_variants, vector_width
from rekindle.graph.lowering import LogicalCall


def _score(call: LogicalCall, context: Context) -> float:
    if context.target.family != "cpu" or not conv.is_constant_planar(call, context):
        return 0
    return 10.0 * (conv.blocks(call) == (0, BLOCK) and call.params["group"] == 1)


def _size(problem: conv.Problem) -> tuple[int, int, int]:
    """Positions of a row, blocks of output channels, rows."""
    height, width = problem.window.out
    return width, -(-problem.m // BLOCK), height * problem.n


def _variants(call: LogicalCall, context: Context) -> Sequence[Variant]:
    """Tiles; a row is one job."""
    tiles = tile_variants(context.target, *_size(conv.problem(call, context)))
    return list(dict.fromkeys(tile[:2] for tile in tiles))


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    problem = conv.problem(call, context)
    if problem.is_empty:
        return []
    win, m = problem.window, problem.m
    m_blocks = -(-m // BLOCK)
    tile = choose_tile(context.target, *_size(problem), wanted=context.variant)
    width = vector_width(context.target)
    end = epilogue(call, 3, width)
    sizes = (
        m, problem.c, *win.size, *win.out, *win.kernel, win.strides[0], *win.pads, *win.dilations,
    )  # fmt: skip
    return [
        Launch(
            kernel="conv_stem",
            entry="conv",
            defines=(
                ("P", str(tile.positions)),
                ("Q", str(tile.blocks)),
                ("VW", str(width)),
                ("SW", str(win.strides[1])),
                *problem.defines,
                *end.defines,
            ),
            args=(
                problem.x,
                conv_panels(problem, 1, tile.blocks * BLOCK),
                padded_vector(problem.bias, problem.bias_array, m_blocks * BLOCK),
                *map(np.int32, sizes),
                *end.args,
                call.output,
            ),
            global_size=(win.out[0], m_blocks // tile.blocks, problem.n),
            local_size=(1, 1, 1),
            unaligned=(0,),
            flops=problem.flops(end.flops),
            bytes_moved=problem.nbytes + end.nbytes,
        )
    ]


register(
    "conv_stem",
    Kernel(
        call="conv",
        score=_score,
        launches=_launches,
        tunables={name: TUNABLES[name] for name in ("P", "Q")},
        variants=_variants,
    ),
)
