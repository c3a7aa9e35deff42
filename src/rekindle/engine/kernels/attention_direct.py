"""`attention` on any device, one query a work-item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle.engine.kernels import Context, Isa, Kernel, Launch, register
from rekindle.engine.kernels._attention import attention, takes
from rekindle.graph.lowering import LogicalCall


def _score(call: LogicalCall, _: Context) -> float:
    return float(takes(call))


def _launches(call: LogicalCall, _: Context) -> Sequence[Launch]:
    what = attention(call)
    batch, heads, queries, keys, *_rest = what.sizes
    return [
        Launch(
            kernel="attention_direct",
            entry="attend",
            defines=(*what.defines, *what.key_type),
            args=(
                what.q,
                what.k,
                what.v,
                *what.mask_args,
                np.int32(keys),
                what.scale,
                *what.strides("q", "k", "v", "y"),
                call.output,
            ),
            global_size=(queries, heads, batch),
            local_size=None,
            flops=what.flops,
            bytes_moved=what.nbytes,
        )
    ]


register(
    "attention_direct",
    Kernel(
        call="attention",
        score=_score,
        launches=_launches,
        isa=Isa(
            multiply_adds=0.22,  # 0.85 is the aim
            waves=1,
            unkept={"scratch": "256 values of a query do not fit the registers"},
        ),
    ),
)
