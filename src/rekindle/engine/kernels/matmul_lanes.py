"""`matmul` on GPUs without local memory: rows of a through scalar registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rekindle._types import DType, Target
from rekindle.engine.kernels import Context, Isa, Kernel, Launch, Variant, Workspace, register
from rekindle.engine.kernels._matmul import Product, product, takes, terms
from rekindle.engine.kernels._render import storage_type
from rekindle.engine.kernels._weights import FLOAT
from rekindle.graph.lowering import LogicalCall

_WAVE, _SIMDS, _STEP = 64, 4, 4
_TILES = ((32, 2), (16, 4), (16, 2), (8, 4), (8, 2), (16, 1), (8, 1), (4, 1))
"""Rows of a group, columns of a lane. More than 64 sums would leave less than three waves."""
_LATENCY = 500
"""Clocks from a load of b to its use, hidden only by other waves of the SIMD. Assumed."""
_SUM_CLOCKS = 12000
"""What a second launch costs: some 8 us at 1.3 GHz. Assumed."""
_BYTES_PER_CLOCK = 160
"""Of the whole card, 220 GB/s at 1.34 GHz: slices are written and read again."""
_MOST_SLICES = 8
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
    # A half in a scalar register takes vector loads; quantised b and columns of b are the
    # business of kernels with local memory.
    plain = what.a.dtype is DType.FLOAT32 and call.params.get("decode") is None
    constant = context.constant(what.b.name) is not None
    fits = plain and not what.transpose_a and what.m >= _TILES[-1][0]
    # The number of terms is compiled in: where b is computed it may be the length of a text, and
    # each length would compile anew.
    return fits * (8.0 if constant else 4.0 * (not what.transpose_b))


def _cuts(what: Product, target: Target) -> list[_Cut]:
    """Tiles and numbers of slices, those with the fewest clocks first by a model of the loop."""
    simds = _SIMDS * target.compute_units
    found: list[tuple[float, _Cut]] = []
    for rows, columns in _TILES:
        if (
            rows > what.m
            or what.n % columns
            or (columns == 4 and what.b.dtype is not DType.FLOAT32)
        ):
            continue
        groups = -(-what.m // rows) * -(-what.n // (_WAVE * columns)) * what.batches
        for slices in range(1, min(_MOST_SLICES, max(1, what.k // _LEAST_TERMS)) + 1):
            each = -(-what.k // slices // _STEP) * _STEP if slices > 1 else what.k
            if what.k - each * (slices - 1) < min(_STEP, what.k):
                continue
            waves = -(-groups * slices // simds)
            valu = 4 * (_STEP * (rows * columns + 2 + columns % 2))
            clocks = -(-each // _STEP) * max(waves * valu, valu + _LATENCY)
            moved = 8 * slices * what.batches * what.m * what.n
            cost = clocks + (slices > 1) * (_SUM_CLOCKS + moved / _BYTES_PER_CLOCK)
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
    end, b = what.epilogue(1), terms(what, context, upright=True)
    cuts = _cuts(what, context.target)
    cut = next((c for c in cuts if _variant(c) == context.variant), cuts[0])
    sliced = cut.slices > 1
    stored = storage_type(call.output.dtype)
    nbytes = 4 * cut.slices * what.batches * what.m * what.n
    slices = Workspace(f"{call.output.name}#slices", nbytes)
    nothing = (("EPILOGUE", "v"), ("EPILOGUE_PARAMS", ""), ("EPILOGUE_READ(row, col)", ""))
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
            ("FLOATS", str(int(b.defines[0] == ("BT", FLOAT)))),
            ("YT", "float" if sliced else stored),
            *(nothing if sliced else end.defines),
        ),
        args=(
            what.a,
            b.b,
            what.offsets,
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
        defines=(("SUMS", "1"), ("YT", stored), *end.defines),
        args=(
            slices,
            what.offsets,
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
            variants={  # of fewer sums more are addresses: they are for few rows or odd columns
                ("TM", "4"): 0.66,
                ("TM", "8"): 0.79,
                ("TN", "1"): 0.66,
                ("FLOATS", "0"): 0.66,
                ("SUMS", "1"): 0.0,  # of slices: nothing to multiply
            },
            waves=3,
        ),
    ),
)
