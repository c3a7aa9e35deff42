"""`conv` of 3 x 3 filters, stride 1, on CPUs by Winograd's minimal filtering: blocked both ways.

F(4 x 4, 3 x 3) takes a quarter of the multiply-adds and F(2 x 2, 3 x 3) four ninths (Lavin and
Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, equations 8 to 14). Both cost
transforms, weights of 4 and 1.8 times the size, and accuracy: errors near 5e-5 of unit variance,
and one NaN or infinity spreads over its tile. Narrow weights are transformed as the numbers that
they stand for, and the result is stored as half: on a CPU time is dearer than memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import (
    Context,
    Kernel,
    Launch,
    Packed,
    Variant,
    Workspace,
    register,
)
from rekindle.engine.kernels import _conv as conv
from rekindle.engine.kernels._conv import Problem
from rekindle.engine.kernels._epilogue import epilogue
from rekindle.engine.kernels._packing import padded_vector, zeros
from rekindle.engine.kernels._tile import (
    BLOCK,
    TUNABLES,
    choose_tile,
    tile_variants,
    vector_width,
)
from rekindle.engine.kernels._weights import FLOAT, HALF
from rekindle.engine.kernels._winograd import FILTERS
from rekindle.graph.ir import Array
from rekindle.graph.lowering import LogicalCall

_PRODUCT = 1 << 18
"""Multiplications from which on OpenBLAS wakes other threads, for far longer than they help."""
_GAP = 60_000.0
_WEIGHT, _TRANSFORM = 8.0, 10.0
"""Measured on two AVX2 cores: two launches more cost some 20
microseconds; a weight read from beyond the caches as much as eight positions that use it; a point
made and stored as much as ten multiply-adds."""


def _score(call: LogicalCall, context: Context) -> float:
    """Above the plain sum's where it is expected to be faster, else below it."""
    if call.params.get("exact"):
        return 0
    if context.target.family != "cpu" or not conv.is_constant_planar(call, context):
        return 0
    problem = conv.problem(call, context)
    win = problem.window
    if (
        conv.blocks(call) != (BLOCK, BLOCK)
        or call.params["group"] != 1
        or (win.kernel, win.strides, win.dilations) != ((3, 3), (1, 1), (1, 1))
    ):
        return 0
    products = 9 * BLOCK * math.prod(_blocks(problem))
    plain = products * (problem.n * math.prod(win.out) + _WEIGHT)
    return 20.0 if _cost(problem, _best_tile(problem)) < plain else 5.0


def _best_tile(problem: Problem) -> int:
    return min((4, 2), key=lambda tile: _cost(problem, tile))


def _size(problem: Problem, tile: int) -> tuple[int, int, int]:
    """Of the product: positions, blocks of output channels, points."""
    tiles = math.prod(_tiles(problem, tile)) * problem.n
    return tiles, _blocks(problem)[1], (tile + 2) ** 2


def _variants(call: LogicalCall, context: Context) -> Sequence[Variant]:
    """Both sizes of Winograd's tile, each with the tiles of its product, in turn."""
    problem = conv.problem(call, context)
    best = _best_tile(problem)
    made: list[list[Variant]] = [
        [(("TILE", tile), *inner) for inner in tile_variants(context.target, *_size(problem, tile))]
        for tile in (best, 6 - best)
    ]
    pairs = itertools.chain.from_iterable(itertools.zip_longest(*made))
    return [variant for variant in pairs if variant is not None]


def _cost(problem: Problem, tile: int) -> float:
    """What `tile` costs, in multiply-adds of 16 channels."""
    c, m = _blocks(problem)
    points, tiles = (tile + 2) ** 2, math.prod(_tiles(problem, tile)) * problem.n
    products = BLOCK * c * m * (tiles + _WEIGHT)
    return points * (products + _TRANSFORM * (c + m) * tiles) + _GAP


def _blocks(problem: Problem) -> tuple[int, int]:
    """Blocks of input and of output channels."""
    return -(-problem.c // BLOCK), -(-problem.m // BLOCK)


def _tiles(problem: Problem, tile: int) -> tuple[int, int]:
    """Rows and columns of tiles in one image."""
    height, width = problem.window.out
    return -(-height // tile), -(-width // tile)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    problem = conv.problem(call, context)
    if problem.is_empty:
        return []
    tile = context.setting("TILE", _best_tile(problem))
    points, (rows, columns) = (tile + 2) ** 2, _tiles(problem, tile)
    c_blocks, m_blocks = _blocks(problem)
    tiles = rows * columns * problem.n
    width = vector_width(context.target)
    shape = (("TILE", str(tile)), ("VW", str(width)))
    name = call.output.name
    v = Workspace(f"{name}#points", 4 * points * c_blocks * tiles * BLOCK)
    y = Workspace(f"{name}#products", 4 * points * m_blocks * tiles * BLOCK)
    inner = choose_tile(context.target, *_size(problem, tile), wanted=context.variant)
    u = _filters(problem, tile, inner.blocks)
    end = epilogue(call, 3, width)
    win = problem.window
    return [
        Launch(
            kernel="winograd_input",
            entry="transform",
            defines=(*shape, *problem.defines),
            args=(problem.x, zeros(BLOCK), *map(np.int32, (*win.size, columns, *win.pads)), v),
            global_size=(rows, c_blocks, problem.n),
            local_size=(1, 1, 1),
            flops=v.nbytes * 2,
            bytes_moved=problem.x.nbytes + v.nbytes,
        ),
        Launch(
            kernel="winograd_product",
            entry="product",
            defines=(
                ("P", str(inner.positions)), ("Q", str(inner.blocks)), ("VW", str(width)),
                ("UT", FLOAT if u.itemsize == 4 else HALF),
            ),
            args=(v, u, *map(np.int32, (c_blocks, tiles, inner.tiles_per_job)), y),
            global_size=(inner.jobs, m_blocks // inner.blocks, points),
            local_size=(1, 1, 1),
            flops=2 * points * problem.c * problem.m * tiles,
            bytes_moved=v.nbytes + u.nbytes + y.nbytes,
        ),
        Launch(
            kernel="winograd_output",
            entry="transform",
            defines=(*shape, *problem.defines, *end.defines),
            args=(
                y,
                padded_vector(problem.bias, problem.bias_array, m_blocks * BLOCK),
                *map(np.int32, (problem.m, *win.out, columns)),
                *end.args,
                call.output,
            ),
            global_size=(rows, m_blocks, problem.n),
            local_size=(1, 1, 1),
            flops=y.nbytes * 2 + math.prod(problem.y.static_shape) * end.flops,
            bytes_moved=y.nbytes + problem.y.nbytes + end.nbytes,
        ),
    ]  # fmt: skip


def _filters(problem: Problem, tile: int, q: int) -> Packed:
    """G g G^T as (points, M / 16 Q, C / 16, 16 c, 16 Q m), zero past M and C.

    Of weights in a narrow type it is stored as half.
    """
    c_blocks, m_blocks = _blocks(problem)
    count = (tile + 2) ** 2 * c_blocks * m_blocks * BLOCK * BLOCK
    storage = FLOAT if problem.w.dtype is DType.FLOAT32 else HALF
    weights = replace(problem.weights, storage=storage)
    arrange = partial(_pack_filters, problem.weights.array, tile, q)
    return weights.packed(f"winograd{tile}x{q}", count, arrange)


def _pack_filters(weights: Array, tile: int, q: int) -> Array:
    m, c = weights.shape[:2]
    g = np.array(FILTERS[tile])
    transform = np.kron(g, g)  # (points, 9 taps)
    across, deep = q * BLOCK, -(-c // BLOCK) * BLOCK
    panels = -(-m // across)
    packed = np.empty((len(transform), panels, deep, across), np.float32)
    taps = np.zeros((9, deep, across))
    step = max(1, _PRODUCT // (transform.size * across))
    for k in range(panels):  # a panel at a time, in the same memory, which stays in the caches
        own = weights[k * across : (k + 1) * across]
        taps[:, :c, : len(own)] = own.reshape(len(own), c, 9).transpose(2, 1, 0)
        taps[:, :, len(own) :] = 0
        # Summed in double: the thirds and sixths of G are rounded once, not in every step.
        for at in range(0, deep, step):
            part = taps[:, at : at + step]
            products = transform @ part.reshape(9, -1)
            packed[:, k, at : at + step] = products.reshape(-1, part.shape[1], across)
    return packed


register(
    "conv_winograd",
    Kernel(
        call="conv",
        score=_score,
        launches=_launches,
        tunables={"TILE": tuple(FILTERS), **TUNABLES},
        variants=_variants,
    ),
)
