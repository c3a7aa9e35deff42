"""`attention` on GPUs: a query a lane, keys and values through scalar registers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType, Target
from rekindle.engine.kernels import (
    Argument,
    Context,
    Floor,
    Isa,
    Kernel,
    Launch,
    Workspace,
    register,
)
from rekindle.engine.kernels._attention import Attention, attention, takes
from rekindle.engine.kernels._slices import Loop, clocks, slicings, sum_clocks
from rekindle.graph.lowering import LogicalCall

_WAVE = 64
_MOST_KEYS = 16
"""Scores in registers. Each key more is one load of the query less, and a register."""
_WIDEST = 80
"""Sums in registers: 16 scores and some thirty others beside them leave two waves a SIMD."""
_SCORE, _LATENCY, _WAVES = 8, 1000, 2
"""For each key vector instructions besides its products (a power takes four), clocks that a wave
waits in each round of keys, and waves on a SIMD."""
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


def _cuts(what: Attention, block: int, target: Target) -> list[tuple[float, int, int]]:
    """Clocks, slices of the keys, keys in each but the last; the fewest clocks first."""
    batch, heads, queries, keys, size, value_size = what.sizes
    part = _part(value_size)
    groups = -(-queries // _WAVE) * heads * batch * (value_size // part)
    outputs = batch * heads * queries * (value_size + 2)
    cuts = []
    for slices, each in slicings(-(-keys // block)):
        loop = Loop(each, block * (size + part + _SCORE) + part, size, _WAVES, _LATENCY)
        cost = clocks(loop, groups * slices, target) + sum_clocks(4 * slices * outputs, slices)
        cuts.append((cost, slices, each * block))
    return sorted(cuts)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    what = attention(call)
    batch, heads, queries, keys, size, value_size = what.sizes
    block = next(n for n in (_MOST_KEYS, 8, 4, 2, 1) if n <= keys)
    _, slices, each = _cuts(what, block, context.target)[0]
    part, waves, name = _part(value_size), -(-queries // _WAVE), call.output.name
    depth = batch * value_size // part
    groups = (waves, heads, depth * slices)
    rows = Workspace(f"{name}#rows", 4 * math.prod(groups) * _WAVE * size)
    each_query = 4 * depth * slices * heads * queries
    sums = Workspace(f"{name}#sums", each_query * part)
    totals = Workspace(f"{name}#totals", each_query * 2)
    by_query = what.mask is not None and call.params["mask_strides"][2] != 0
    native = ("NATIVE", str(int(context.target.family == "gcn")))
    written = (sums, totals) if slices > 1 else (call.output,)
    args: tuple[Argument, ...] = (
        what.q,
        what.k,
        what.v,
        *what.mask_args,
        *(map(np.int32, (depth, each)) if slices > 1 else ()),
        *map(np.int32, (heads, queries, keys)),
        what.scale,
        *what.strides("q"),
        *what.strides("k")[:2],
        *what.strides("v")[:2],
        *what.strides("y"),
        rows,
        *written,
    )
    attend = Launch(
        kernel="attention_lanes",
        entry="attend",
        defines=(
            ("D", str(size)),
            ("DV", str(value_size)),
            ("PART", str(part)),
            ("KR", str(call.params["k_strides"][2])),
            ("VR", str(call.params["v_strides"][2])),
            ("BK", str(block)),
            ("MASK", str(0 if what.mask is None else 1 if by_query else 2)),
            ("SLICED", str(int(slices > 1))),
            *what.types,
            native,
        ),
        args=args,
        global_size=(waves * _WAVE, *groups[1:]),
        local_size=(_WAVE, 1, 1),
        flops=what.flops,
        bytes_moved=what.nbytes + 2 * rows.nbytes + (slices > 1) * (sums.nbytes + totals.nbytes),
        writes=tuple(range(len(args) - 1 - len(written), len(args))),
    )
    return [attend] if slices == 1 else [attend, _sum(what, sums, totals, slices, native)]


def _sum(
    what: Attention, sums: Workspace, totals: Workspace, slices: int, native: tuple[str, str]
) -> Launch:
    batch, heads, queries, _, _, value_size = what.sizes
    part, y = _part(value_size), what.call.output
    return Launch(
        kernel="attention_sum",
        entry="sum",
        defines=(
            ("SUMS", "1"),
            ("DV", str(value_size)),
            ("PART", str(part)),
            what.types[-1],
            native,
        ),
        args=(
            sums,
            totals,
            *map(np.int32, (slices, queries)),
            *what.strides("y"),
            y,
        ),
        global_size=(
            -(-queries * part // 4 // _WAVE) * _WAVE, heads, batch * value_size // part,
        ),
        local_size=(_WAVE, 1, 1),
        flops=batch * heads * queries * value_size * (2 * slices + 1),
        bytes_moved=sums.nbytes + totals.nbytes + y.nbytes,
    )  # fmt: skip


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
                ("SUMS", "1"): Floor(0, "the sum of slices multiplies little"),
            },
            waves=2,  # 64 sums take most registers
        ),
    ),
)
