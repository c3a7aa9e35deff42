"""`matmul` on CPUs. A constant b is packed into panels once, a computed one by a first launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import (
    Argument,
    Context,
    Kernel,
    Launch,
    Packed,
    Variant,
    Workspace,
    register,
)
from rekindle.engine.kernels._epilogue import vectorizes
from rekindle.engine.kernels._matmul import Product, product, takes, weights
from rekindle.engine.kernels._render import storage_type
from rekindle.engine.kernels._tile import (
    BLOCK,
    JOBS,
    TUNABLES,
    Tile,
    choose_tile,
    jobs_wanted,
    tile_variants,
    vector_width,
)
from rekindle.engine.kernels._weights import BFLOAT16, FLOAT, HALF, INT4, INT8, Weights
from rekindle.graph.ir import Array
from rekindle.graph.lowering import LogicalCall

_DECODES = (FLOAT, HALF, BFLOAT16, INT8, INT4)
_NOTHING = np.zeros(0, np.float32)
_TERMS_PER_JOB = 32
"""Rows of b that a job packs, each perhaps in a page of its own: the first-level TLB holds 64."""
_CACHE_BYTES = 512 * 2**10
"""A core's second-level cache. Assumed."""
_LAST_CACHE_BYTES = 4 * 2**20
"""What of b all jobs go through together, so that it comes from the last cache. Assumed."""
_MOST_COPIED = 24 * 2**10
"""Floats of a's rows in a job: a fifth of the second-level cache."""
_LEAST_ROWS = 12
"""So often at least a vector of b is used when it comes from the last cache."""
_BLOCKS_WORTH_COPYING = 24
"""A copy costs as much as the product with one block of columns or two."""
_ROWS_WORTH_PACKING = 16
"""Packing reads and writes b once more: fewer rows do not pay for it."""


def _score(call: LogicalCall, context: Context) -> float:
    return 10.0 * (context.target.family == "cpu" and takes(call))


def _width(what: Product, context: Context) -> int:
    """Floats of a vector."""
    return 8 if what.n < BLOCK else vector_width(context.target)


def _variants(call: LogicalCall, context: Context) -> Sequence[Variant]:
    what = product(call)
    size = what.m, -(-what.n // BLOCK), what.batches
    return tile_variants(context.target, *size, ragged=True, width=_width(what, context))


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    if 0 in call.output.static_shape:
        return []
    what = product(call)
    width = _width(what, context)
    size = what.m, -(-what.n // BLOCK), what.batches
    tile = choose_tile(context.target, *size, ragged=True, width=width, wanted=context.variant)
    panels = -(-what.n // (tile.blocks * BLOCK))
    stored = weights(what, context, _DECODES)
    narrow = what.n < width
    rows = stored is None and what.m < _ROWS_WORTH_PACKING and not (what.transpose_b or narrow)
    before: list[Launch] = []
    b: Argument = what.b
    if stored is not None:
        b = _packed(what, stored, tile, panels, width)
    elif not rows:
        b = Workspace(f"{call.output.name}#panels", 4 * _panel_floats(what, tile, panels))
        before = [_pack(what, b, tile, panels, width, context)]
    computed = Weights("", _NOTHING, storage_type(what.b.dtype) if rows else FLOAT)
    singly = narrow or not vectorizes(call, 2)
    scales = _scales(what, stored, tile, panels, width) if stored else ()
    end = what.epilogue(1 if singly else width)
    cut = _jobs(what, tile, panels, context)
    sizes = (what.row_ints, what.m, what.n, what.k, cut.tiles, panels, cut.panels)
    return [
        *before,
        Launch(
            kernel="matmul_tiled",
            entry="matmul",
            defines=(
                ("P", str(tile.positions)),
                ("Q", str(tile.blocks)),
                ("VW", str(width)),
                ("TRANSPOSE_A", str(int(what.transpose_a))),
                ("ROWS_B", str(int(rows))),
                ("SINGLY", str(int(singly))),
                ("AT", storage_type(what.a.dtype)),
                ("YT", storage_type(call.output.dtype)),
                ("NARROW", str(int(what.a.dtype is not DType.FLOAT32))),
                ("ROOM", str(cut.room)),
                *(stored or computed).defines("BT"),
                *end.defines,
            ),
            args=(what.a, b, what.offsets, *scales, *map(np.int32, sizes), *end.args, call.output),
            global_size=(
                -(-what.m // (tile.positions * cut.tiles)),
                -(-panels // cut.panels),
                what.batches,
            ),
            local_size=(1, 1, 1),
            unaligned=(0, 1) if rows else (0,),
            flops=what.flops(end.flops),
            bytes_moved=what.nbytes + end.nbytes,
        ),
    ]


@dataclass(frozen=True)
class _Jobs:
    """What one job does: so many tiles of rows, and for each so many panels."""

    tiles: int
    panels: int
    room: int
    """Floats for a copy of the job's rows of a; 0: they are read where they lie."""


def _jobs(what: Product, tile: Tile, panels: int, context: Context) -> _Jobs:
    """Rows are copied where a as a whole does not stay in the second-level cache, and many panels
    read the copy: as many rows as leave enough jobs, panels shared out only where rows do not.
    """
    tiles, most = -(-what.m // tile.positions), _MOST_COPIED // (tile.positions * what.k)
    least = max(_LEAST_ROWS // tile.positions, 1)
    wanted = jobs_wanted(context.target, what.batches, context.setting("JOBS", JOBS[0]))
    fewest = -(-_BLOCKS_WORTH_COPYING // tile.blocks)
    possible = tiles // least * (panels // fewest)
    if 4 * what.m * what.k < _CACHE_BYTES or most < least or 2 * possible < wanted:
        return _Jobs(tile.tiles_per_job, 1, 0)
    each = max(least, min(most, tiles // wanted))
    shared = 4 * panels * what.k * tile.blocks * BLOCK // _LAST_CACHE_BYTES
    groups = max(-(-wanted * each // (2 * tiles)), shared)
    across = max(-(-panels // groups), fewest)
    return _Jobs(each, across, 1 << (each * tile.positions * what.k - 1).bit_length())


def _panel_floats(what: Product, tile: Tile, panels: int) -> int:
    return what.matrices_b * panels * what.k * tile.blocks * BLOCK


def _packed(what: Product, b: Weights, tile: Tile, panels: int, width: int) -> Packed:
    """(matrices, panels, K, Q * 16)."""

    def arrange() -> Array:
        return _in_panels(b.array, tile.blocks * BLOCK, panels, width)

    kind = f"panels{tile.blocks}x{width}{'t' * what.transpose_b}"
    return b.packed(kind, _panel_floats(what, tile, panels), arrange)


def _in_panels(b: Array, across: int, panels: int, width: int) -> Array:
    """(matrices, K, N) by panels: vector v is columns v * width on, or the last that fit."""
    matrices, terms, columns = b.shape
    if columns < width:
        b = np.pad(b, [(0, 0), (0, 0), (0, width - columns)])
    starts = np.minimum(np.arange(0, panels * across, width), b.shape[2] - width)
    order = (starts[:, None] + np.arange(width)).reshape(-1)
    return b[:, :, order].reshape(matrices, terms, panels, across).transpose(0, 2, 1, 3)


def _scales(what: Product, b: Weights, tile: Tile, panels: int, width: int) -> tuple[Argument, ...]:
    """Factors by panels, (panels, Q * 16) or (panels, K / G, Q * 16), and G."""
    decode = b.decode
    if decode is None:
        return ()
    groups, across = decode.scale.shape[1], tile.blocks * BLOCK

    def pack() -> Array:
        full = np.broadcast_to(decode.scale, (1, groups, what.n))
        return np.ascontiguousarray(_in_panels(full, across, panels, width), np.float32)

    key = f"panel_scales{tile.blocks}x{width}:{what.b.name}"
    return Packed(key, 4 * panels * groups * across, pack), np.int32(decode.group)


def _pack(
    what: Product, panel: Workspace, tile: Tile, panels: int, width: int, context: Context
) -> Launch:
    vectors = tile.blocks * BLOCK // width
    terms = min(_TERMS_PER_JOB, -(-what.k // jobs_wanted(context.target, what.matrices_b)))
    return Launch(
        kernel="matmul_pack",
        entry="pack",
        defines=(
            ("VW", str(width)),
            ("TRANSPOSE_B", str(int(what.transpose_b))),
            ("BT", storage_type(what.b.dtype)),
        ),
        args=(what.b, *map(np.int32, (what.n, what.k, vectors, panels * vectors, terms)), panel),
        global_size=(-(-what.k // terms), what.matrices_b, 1),
        local_size=(1, 1, 1),
        unaligned=(0,),
        bytes_moved=what.b.nbytes + panel.nbytes,
    )


register(
    "matmul_tiled",
    Kernel(
        call="matmul",
        score=_score,
        launches=_launches,
        tunables=TUNABLES,
        variants=_variants,
    ),
)
