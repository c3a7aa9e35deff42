"""`matmul` on CPUs. A constant b is packed into panels once, a computed one by a first launch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle.engine.kernels import Argument, Context, Kernel, Launch, Packed, Workspace, register
from rekindle.engine.kernels._epilogue import vectorizes
from rekindle.engine.kernels._matmul import Product, product, takes
from rekindle.engine.kernels._tile import BLOCK, Tile, choose_tile, jobs_wanted, vector_width
from rekindle.graph.ir import Array
from rekindle.graph.lowering import LogicalCall

_ROWS_WORTH_PACKING = 16
"""Packing reads and writes b once more: fewer rows do not pay for it."""


def _score(call: LogicalCall, context: Context) -> float:
    return 10.0 * (context.target.family == "cpu" and takes(call))


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    if 0 in call.output.static_shape:
        return []
    what = product(call)
    width = 8 if what.n < BLOCK else vector_width(context.target)
    tile = choose_tile(
        context.target, what.m, -(-what.n // BLOCK), what.batches, ragged=True, width=width
    )
    panels = -(-what.n // (tile.blocks * BLOCK))
    constant = context.constant(what.b.name)
    narrow = what.n < width
    rows = constant is None and what.m < _ROWS_WORTH_PACKING and not (what.transpose_b or narrow)
    before: list[Launch] = []
    b: Argument = what.b
    if constant is not None:
        b = _packed(what, constant, tile, panels, width)
    elif not rows:
        b = Workspace(f"{call.output.name}#panels", 4 * _panel_floats(what, tile, panels))
        before = [_pack(what, b, tile, panels, width, context)]
    singly = narrow or not vectorizes(call, 2)
    end = what.epilogue(1 if singly else width)
    sizes = (what.row_ints, what.m, what.n, what.k, tile.tiles_per_job)
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
                *end.defines,
            ),
            args=(what.a, b, what.offsets, *map(np.int32, sizes), *end.args, call.output),
            global_size=(tile.jobs, panels, what.batches),
            local_size=(1, 1, 1),
            flops=what.flops(end.flops),
            bytes_moved=what.nbytes + end.nbytes,
        ),
    ]


def _panel_floats(what: Product, tile: Tile, panels: int) -> int:
    return what.matrices_b * panels * what.k * tile.blocks * BLOCK


def _packed(what: Product, b: Array, tile: Tile, panels: int, width: int) -> Packed:
    """(matrices, panels, K, Q * 16): vector v is columns v * width on, or the last that fit."""
    floats = panels * tile.blocks * BLOCK

    def pack() -> Array:
        matrices = b.reshape(what.matrices_b, *b.shape[-2:])
        full = matrices.swapaxes(1, 2) if what.transpose_b else matrices
        if what.n < width:
            full = np.pad(full, [(0, 0), (0, 0), (0, width - what.n)])
        starts = np.minimum(np.arange(0, floats, width), full.shape[2] - width)
        columns = (starts[:, None] + np.arange(width)).reshape(-1)
        split = full[:, :, columns].reshape(what.matrices_b, what.k, panels, -1)
        return np.ascontiguousarray(split.transpose(0, 2, 1, 3), np.float32)

    key = f"panels{tile.blocks}x{width}{'t' * what.transpose_b}:{what.b.name}"
    return Packed(key, 4 * _panel_floats(what, tile, panels), pack)


def _pack(
    what: Product, panel: Workspace, tile: Tile, panels: int, width: int, context: Context
) -> Launch:
    vectors = tile.blocks * BLOCK // width
    wanted = jobs_wanted(context.target, panels * vectors * what.matrices_b)
    terms = -(-what.k // min(wanted, what.k))
    return Launch(
        kernel="matmul_pack",
        entry="pack",
        defines=(("VW", str(width)), ("TRANSPOSE_B", str(int(what.transpose_b)))),
        args=(what.b, *map(np.int32, (what.n, what.k, vectors, terms)), panel),
        global_size=(panels * vectors, -(-what.k // terms), what.matrices_b),
        local_size=(1, 1, 1),
        bytes_moved=what.b.nbytes + panel.nbytes,
    )


register("matmul_tiled", Kernel(call="matmul", score=_score, launches=_launches))
