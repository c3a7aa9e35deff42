"""`matmul` on GPUs through local memory: any sizes, both operands as they lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle.engine.kernels import Context, Floor, Isa, Kernel, Launch, Variant, register
from rekindle.engine.kernels._matmul import Product, product, takes, terms
from rekindle.engine.kernels._render import storage_type
from rekindle.graph.lowering import LogicalCall

_SIDE = 16
_COLUMNS = 4
_ROWS = (8, 4, 2, 1)
_GROUPS_PER_UNIT = 2


def _score(call: LogicalCall, context: Context) -> float:
    return 5.0 * (context.target.family != "cpu" and takes(call))


def _rows(what: Product, context: Context) -> int:
    """Tall tiles read local memory least, but a card wants two work-groups a compute unit."""
    across = -(-what.n // (_SIDE * _COLUMNS)) * what.batches
    enough = _GROUPS_PER_UNIT * context.target.compute_units
    return next((tm for tm in _ROWS if -(-what.m // (_SIDE * tm)) * across >= enough), _ROWS[-1])


def _variants(call: LogicalCall, context: Context) -> Sequence[Variant]:
    best = _rows(product(call), context)
    return [(("TM", tm),) for tm in sorted(_ROWS, key=lambda tm: (tm != best, abs(tm - best)))]


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    if 0 in call.output.static_shape:
        return []
    what = product(call)
    end, b = what.epilogue(1), terms(what, context)
    across = -(-what.n // (_SIDE * _COLUMNS))
    rows = context.setting("TM", _rows(what, context))
    down = -(-what.m // (_SIDE * rows))
    return [
        Launch(
            kernel="matmul_local",
            entry="matmul",
            defines=(
                ("TM", str(rows)),
                ("TRANSPOSE_A", str(int(what.transpose_a))),
                ("TRANSPOSE_B", str(int(b.transposed))),
                ("AT", storage_type(what.a.dtype)),
                *b.defines,
                ("YT", storage_type(call.output.dtype)),
                *end.defines,
            ),
            args=(
                what.a,
                b.b,
                what.offsets,
                *b.scales,
                *map(np.int32, (what.row_ints, what.m, what.n, what.k)),
                *end.args,
                call.output,
            ),
            global_size=(across * _SIDE, down * _SIDE, what.batches),
            local_size=(_SIDE, _SIDE, 1),
            flops=what.flops(end.flops),
            bytes_moved=what.nbytes + end.nbytes,
        )
    ]


register(
    "matmul_local",
    Kernel(
        call="matmul",
        score=_score,
        launches=_launches,
        tunables={"TM": _ROWS},
        variants=_variants,
        isa=Isa(
            multiply_adds=0.75,  # 0.94 is the aim: bounds are checked for each element staged
            variants={
                ("TM", "2"): Floor(0.60, "few sums for each element staged"),
                ("TM", "1"): Floor(0.50, "few sums for each element staged"),
            },
            waves=3,
        ),
    ),
)
