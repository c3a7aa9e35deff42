"""`matmul` of few rows on GPUs: a vector times a matrix, or a handful of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle.engine.kernels import Context, Kernel, Launch, register
from rekindle.engine.kernels._matmul import product, takes, terms
from rekindle.engine.kernels._render import storage_type
from rekindle.graph.lowering import LogicalCall

_WAVE, _QUARTERS = 64, 4
_MOST_ROWS = 4
"""Each row reads the whole of b; beyond these a tile is better."""


def _score(call: LogicalCall, context: Context) -> float:
    if context.target.family == "cpu" or not takes(call):
        return 0
    what = product(call)
    # A computed, transposed b would be read with a stride.
    readable = not what.transpose_b or context.constant(what.b.name) is not None
    return 10.0 * (what.m <= _MOST_ROWS and readable)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    if 0 in call.output.static_shape:
        return []
    what = product(call)
    end, b = what.epilogue(1), terms(what, context, upright=True)
    return [
        Launch(
            kernel="matmul_rows",
            entry="matmul",
            defines=(
                ("TRANSPOSE_A", str(int(what.transpose_a))),
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
            global_size=(-(-what.n // _WAVE) * _WAVE, _QUARTERS * what.m, what.batches),
            local_size=(_WAVE, _QUARTERS, 1),
            flops=what.flops(end.flops),
            bytes_moved=what.nbytes + end.nbytes,
        )
    ]


register("matmul_rows", Kernel(call="matmul", score=_score, launches=_launches, tunables={}))
