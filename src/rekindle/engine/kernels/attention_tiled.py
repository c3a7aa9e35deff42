"""`attention` on CPUs: keys packed by a first launch, then tiles of queries in registers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import Context, Kernel, Launch, Variant, Workspace, register
from rekindle.engine.kernels._attention import attention, takes
from rekindle.engine.kernels._tile import BLOCK, JOBS, jobs_wanted, vector_width
from rekindle.graph.lowering import LogicalCall

_QUERIES = 6
"""P x 2 sums, two vectors and a scalar fill the 16 registers of AVX2."""
_TALLEST = 12


def _score(call: LogicalCall, context: Context) -> float:
    fits = context.target.family == "cpu" and takes(call)
    return 10.0 * (fits and call.params["sizes"][5] % 8 == 0)


def _width(call: LogicalCall, context: Context) -> int:
    """Floats of a vector."""
    return min(vector_width(context.target), 16 if call.params["sizes"][5] % 16 == 0 else 8)


def _variants(call: LogicalCall, context: Context) -> Sequence[Variant]:
    queries = call.params["sizes"][2]
    most = min(_QUERIES * _width(call, context) // 8, queries)
    return [(("P", p), ("JOBS", jobs)) for jobs in JOBS for p in range(most, 0, -1)]


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    what = attention(call)
    batch, heads, queries, keys, size, _ = what.sizes
    width = _width(call, context)
    panels = -(-keys // BLOCK)
    packed = Workspace(f"{call.output.name}#keys", 4 * batch * heads * panels * BLOCK * size)
    tile = context.setting("P", min(_QUERIES * width // 8, queries))
    tiles = -(-queries // tile)
    jobs = jobs_wanted(context.target, batch * heads, context.setting("JOBS", JOBS[0]))
    per_job = -(-tiles // min(jobs, tiles))
    return [
        Launch(
            kernel="attention_pack",
            entry="pack",
            defines=(("D", str(size)), *what.key_type),
            args=(what.k, np.int32(keys), *what.strides("k"), packed),
            global_size=(panels, heads, batch),
            local_size=(1, 1, 1),
            bytes_moved=what.k.nbytes + packed.nbytes,
        ),
        Launch(
            kernel="attention_tiled",
            entry="attend",
            defines=(
                ("P", str(tile)),
                ("VW", str(width)),
                ("F(f)", f"rk{width}_##f"),
                ("NARROW", str(int(what.q.dtype is not DType.FLOAT32))),
                *what.defines,
            ),
            args=(
                what.q,
                packed,
                what.v,
                *what.mask_args,
                *map(np.int32, (queries, keys, per_job)),
                what.scale,
                *what.strides("q", "v", "y"),
                call.output,
            ),
            global_size=(-(-tiles // per_job), heads, batch),
            local_size=(1, 1, 1),
            flops=what.flops,
            bytes_moved=what.nbytes + packed.nbytes,
        ),
    ]


register(
    "attention_tiled",
    Kernel(
        call="attention",
        score=_score,
        launches=_launches,
        tunables={"P": range(1, _TALLEST + 1), "JOBS": JOBS},
        variants=_variants,
    ),
)
