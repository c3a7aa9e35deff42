"""`matmul` on GPUs without local memory: rows of a through scalar registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rekindle._types import DType, Target
from rekindle.engine.kernels import (
    Context,
    Floor,
    Isa,
    Kernel,
    Launch,
    Variant,
    Workspace,
    register,
)
from rekindle.engine.kernels._matmul import Product, product, quads, takes
from rekindle.engine.kernels._render import storage_type
from rekindle.engine.kernels._weights import BFLOAT16, HALF, INT8
from rekindle.graph.lowering import LogicalCall

_WAVE, _SIMDS, _STEP = 64, 4, 4
_TILES = ((32, 2), (16, 4), (16, 2), (32, 1), (8, 4), (8, 2), (16, 1), (8, 1), (4, 1))
"""Rows of a group, columns of a lane. More than 64 sums would leave less than three waves."""
_ADDRESS = 2
"""Instructions that move a pointer to b."""
_DECODING = {DType.FLOAT32: 0, DType.FLOAT16: _STEP, DType.BFLOAT16: _STEP}
"""Instructions that make floats of what a load of b brings; of integers two for each."""
_LATENCY = 500
"""Clocks from a load of b to its use, hidden only by other waves of the SIMD. Assumed."""
_SUM_CLOCKS = 12000
"""What a second launch costs: some 8 us at 1.3 GHz. Assumed."""
_BYTES_PER_CLOCK = 160
"""Of the whole card, 220 GB/s at 1.34 GHz: slices are written and read again."""
_MOST_SLICES = 8
_NOTHING = (("EPILOGUE", "v"), ("EPILOGUE_PARAMS", ""), ("EPILOGUE_READ(row, col)", ""))
"""Defines of a product whose slices another launch adds."""
_LEAST_TERMS = 64


@dataclass(frozen=True)
class _Cut:
    rows: int
    columns: int
    slices: int
    terms: int
    """Of a slice."""


def _score(call: LogicalCall, context: Context) -> float:
    if context.target.family == "cpu" or not takes(call):
        return 0
    what = product(call)
    # A half in a scalar register takes vector loads; groups of terms with scales of their own are
    # the business of kernels with local memory. A computed b does not lie in quads, and its number
    # of terms may be the length of a text, with which each would compile anew.
    decode = call.params.get("decode")
    plain = what.a.dtype is DType.FLOAT32 and (decode is None or not decode.group)
    constant = context.constant(what.b.name) is not None
    return 8.0 * (plain and constant and not what.transpose_a and what.m >= _TILES[-1][0])


def _cuts(what: Product, target: Target) -> list[_Cut]:
    """Tiles and numbers of slices, those with the fewest clocks first by a model of the loop."""
    simds = _SIMDS * target.compute_units
    narrow = _DECODING.get(what.b.dtype, 2 * _STEP)
    found: list[tuple[float, _Cut]] = []
    for rows, columns in _TILES:
        if rows > what.m:
            continue
        groups = -(-what.m // rows) * -(-what.n // (_WAVE * columns)) * what.batches
        for slices in range(1, min(_MOST_SLICES, max(1, what.k // _LEAST_TERMS)) + 1):
            each = -(-what.k // slices // _STEP) * _STEP if slices > 1 else what.k
            if what.k - each * (slices - 1) < min(_STEP, what.k):
                continue
            waves = -(-groups * slices // simds)
            valu = 4 * columns * (_STEP * rows + _ADDRESS + narrow)
            clocks = -(-each // _STEP) * max(waves * valu, valu + _LATENCY)
            moved = 8 * slices * what.batches * what.m * what.n
            # At equal instructions, wide lanes load a less often.
            spread = clocks * (1 + 0.02 / columns)
            cost = spread + (slices > 1) * (_SUM_CLOCKS + moved / _BYTES_PER_CLOCK)
            found.append((cost, _Cut(rows, columns, slices, each)))
    return [cut for _, cut in sorted(found, key=lambda pair: pair[0])]


def _variant(cut: _Cut) -> Variant:
    return ("TM", cut.rows), ("TN", cut.columns), ("SLICES", cut.slices)


def _variants(call: LogicalCall, context: Context) -> Sequence[Variant]:
    return [_variant(cut) for cut in _cuts(product(call), context.target)]


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    if 0 in call.output.static_shape:
        return []
    what = product(call)
    end, b = what.epilogue(1), quads(what, context)
    cuts = _cuts(what, context.target)
    cut = next((c for c in cuts if _variant(c) == context.variant), cuts[0])
    sliced = cut.slices > 1
    stored = storage_type(call.output.dtype)
    nbytes = 4 * cut.slices * what.batches * what.m * what.n
    slices = Workspace(f"{call.output.name}#slices", nbytes)
    across, down = -(-what.n // (_WAVE * cut.columns)), -(-what.m // cut.rows)
    product_launch = Launch(
        kernel="matmul_lanes",
        entry="matmul",
        defines=(
            ("TM", str(cut.rows)),
            ("TN", str(cut.columns)),
            ("K", str(what.k)),
            ("TERMS", str(cut.terms)),
            ("SLICED", str(int(sliced))),
            b.defines[0],
            ("SCALES", "0" if sliced else str(len(b.scales))),
            ("YT", "float" if sliced else stored),
            *(_NOTHING if sliced else end.defines),
        ),
        args=(
            what.a,
            b.b,
            what.offsets,
            *(() if sliced else b.scales),
            *map(np.int32, (what.row_ints, what.batches, what.m, what.n)),
            *(() if sliced else end.args),
            slices if sliced else call.output,
        ),
        global_size=(across * _WAVE, down, what.batches * cut.slices),
        local_size=(_WAVE, 1, 1),
        flops=what.flops(0 if sliced else end.flops),
        bytes_moved=what.nbytes + (slices.nbytes if sliced else end.nbytes),
    )
    if not sliced:
        return [product_launch]
    sum_launch = Launch(
        kernel="matmul_sum",
        entry="sum",
        defines=(("SUMS", "1"), ("SCALES", str(len(b.scales))), ("YT", stored), *end.defines),
        args=(
            slices,
            what.offsets,
            *b.scales,
            *map(np.int32, (what.row_ints, cut.slices, what.m, what.n)),
            *end.args,
            call.output,
        ),
        global_size=(what.n, what.m, what.batches),
        local_size=None,
        flops=what.batches * what.m * what.n * (cut.slices - 1 + end.flops),
        bytes_moved=slices.nbytes + call.output.nbytes + end.nbytes,
    )
    return [product_launch, sum_launch]


register(
    "matmul_lanes",
    Kernel(
        call="matmul",
        score=_score,
        launches=_launches,
        tunables={
            "TM": sorted({rows for rows, _ in _TILES}),
            "TN": sorted({columns for _, columns in _TILES}),
            "SLICES": range(1, _MOST_SLICES + 1),
        },
        variants=_variants,
        isa=Isa(
            multiply_adds=0.94,
            variants={
                ("TM", "4"): Floor(0.60, "for four rows, two of 18 instructions move a pointer"),
                ("SUMS", "1"): Floor(0, "the sum of slices multiplies nothing"),
                ("BT", HALF): Floor(0.84, "four instructions decode what one load brings"),
                ("BT", BFLOAT16): Floor(0.84, "four instructions decode what one load brings"),
                ("BT", INT8): Floor(0.76, "eight instructions decode what one load brings"),
            },
            waves=3,
        ),
    ),
)
