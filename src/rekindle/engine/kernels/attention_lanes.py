"""`attention` on GPUs: a query a lane, keys and values through scalar registers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import Context, Floor, Isa, Kernel, Launch, Workspace, register
from rekindle.engine.kernels._attention import attention, takes
from rekindle.graph.lowering import LogicalCall

_WAVE = 64
_MOST_KEYS = 16
"""Scores in registers. Each key more is one load of the query less, and a register."""
_WIDEST = 80
"""Sums in registers: 16 scores and some thirty others beside them leave two waves a SIMD."""
_NARROWEST = 32
"""Each part of a value scores all keys anew: narrower ones mostly do that."""


def _score(call: LogicalCall, context: Context) -> float:
    if context.target.family == "cpu" or not takes(call):
        return 0
    # Halves do not come through scalar registers.
    if any(v is not None and v.dtype is not DType.FLOAT32 for v in call.inputs[1:3]):
        return 0
    *_, size, value_size = call.params["sizes"]
    return 10.0 * (size % 4 == 0 and _part(value_size) > 0)


def _part(value_size: int) -> int:
    """Floats of a value that a work-group sums; 0: it does not divide well."""
    if value_size <= _WIDEST:
        return value_size if value_size % 4 == 0 else 0
    parts = range(_WIDEST, _NARROWEST - 1, -4)
    return next((part for part in parts if value_size % part == 0), 0)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    what = attention(call)
    batch, heads, queries, keys, size, value_size = what.sizes
    part = _part(value_size)
    waves = -(-queries // _WAVE)
    groups = (waves, heads, batch * value_size // part)
    rows = Workspace(f"{call.output.name}#rows", 4 * int(np.prod(groups)) * _WAVE * size)
    by_query = what.mask is not None and call.params["mask_strides"][2] != 0
    masked = 0 if what.mask is None else 1 if by_query else 2
    args = (
        what.q,
        what.k,
        what.v,
        *what.mask_args,
        *map(np.int32, (heads, queries, keys)),
        what.scale,
        *what.strides("q"),
        *what.strides("k")[:2],
        *what.strides("v")[:2],
        *what.strides("y"),
        rows,
        call.output,
    )
    return [
        Launch(
            kernel="attention_lanes",
            entry="attend",
            defines=(
                ("D", str(size)),
                ("DV", str(value_size)),
                ("PART", str(part)),
                ("KR", str(call.params["k_strides"][2])),
                ("VR", str(call.params["v_strides"][2])),
                ("BK", str(next(n for n in (_MOST_KEYS, 8, 4, 2, 1) if n <= keys))),
                ("MASK", str(masked)),
                *what.types,
                ("NATIVE", str(int(context.target.family == "gcn"))),
            ),
            args=args,
            global_size=(waves * _WAVE, *groups[1:]),
            local_size=(_WAVE, 1, 1),
            flops=what.flops,
            bytes_moved=what.nbytes + 2 * rows.nbytes,
            writes=(len(args) - 2, -1),
        )
    ]


register(
    "attention_lanes",
    Kernel(
        call="attention",
        score=_score,
        launches=_launches,
        isa=Isa(
            multiply_adds=0.94,  # of the scores alone, which are a loop of their own, but for
            variants={
                ("D", "8"): Floor(0.60, "scores are no loop of their own"),
                ("D", "4"): Floor(0.50, "scores are no loop of their own"),
            },
            waves=2,  # 64 sums take most registers
        ),
    ),
)
