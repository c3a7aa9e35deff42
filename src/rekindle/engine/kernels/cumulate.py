"""`cumulate`: running sums or products along an axis, any numeric dtype."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import Context, Kernel, Launch, register
from rekindle.engine.kernels._nest import share
from rekindle.engine.kernels._render import compute_type, storage_type
from rekindle.engine.kernels.gather_elements import plain
from rekindle.graph.lowering import LogicalCall


def _score(call: LogicalCall, context: Context) -> float:
    (x,) = call.inputs
    assert x is not None
    typed = x.dtype is not DType.FLOAT64 or context.target.fp64
    return float(plain(x, call.output) and typed and x.dtype is not DType.BOOL)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    (x,) = call.inputs
    assert x is not None
    shape, p = x.static_shape, call.params
    n, inner = shape[p["axis"]], math.prod(shape[p["axis"] + 1 :])
    lines = math.prod(shape[: p["axis"]]) * inner
    if not lines * n:
        return []
    total = p["kind"] == "sum"
    work = share(context.target, 1, lines, n)
    return [
        Launch(
            kernel="cumulate",
            entry="cumulate",
            defines=(
                ("T", storage_type(x.dtype)),
                ("ACC", compute_type(x.dtype)),
                ("START", "0" if total else "1"),
                ("JOIN(a, b)", f"((a) {'+' if total else '*'} (b))"),
                ("REVERSE", str(int(p["reverse"]))),
                ("EXCLUSIVE", str(int(p["exclusive"]))),
                ("GROUP", str(work.group)),
            ),
            args=(x, *map(np.int32, (n, inner, lines, work.chunk)), call.output),
            global_size=work.global_size,
            local_size=work.local_size,
            flops=lines * n,
            bytes_moved=2 * x.nbytes,
        )
    ]


register("cumulate", Kernel(call="cumulate", score=_score, launches=_launches))
