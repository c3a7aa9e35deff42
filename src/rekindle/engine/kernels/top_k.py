"""`top_k`: where the k largest or smallest elements along an axis lie, best first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import Context, Kernel, Launch, register
from rekindle.engine.kernels._nest import GPU_GROUP, share
from rekindle.engine.kernels._render import compute_type, storage_type
from rekindle.engine.kernels.gather_elements import plain
from rekindle.graph.lowering import LogicalCall

_MOST_MOVES = 1 << 28
"""Insertions a line may cost on a CPU at worst; a sort on the host is faster from there."""
_LONGEST = 1 << 17
"""Elements of a line that a GPU compares with one another."""

_LARGEST = "((v) > (w) || ((v) != (v) && (w) == (w)))"
_SMALLEST = "((v) < (w) || ((w) != (w) && (v) == (v)))"


def _score(call: LogicalCall, context: Context) -> float:
    (x,) = call.inputs
    assert x is not None
    n, k = x.static_shape[call.params["axis"]], call.params["k"]
    cpu = context.target.family == "cpu"
    short = n * k <= _MOST_MOVES if cpu else n <= _LONGEST
    typed = x.dtype is not DType.FLOAT64 or context.target.fp64
    return float(plain(x, call.output) and typed and short and call.output.dtype is DType.INT64)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    (x,) = call.inputs
    assert x is not None
    shape, axis, k = x.static_shape, call.params["axis"], call.params["k"]
    n, inner = shape[axis], math.prod(shape[axis + 1 :])
    lines = math.prod(shape[:axis]) * inner
    if not lines * k:
        return []
    cpu = context.target.family == "cpu"
    work = share(context.target, 1, lines, n)
    items = -(-lines // work.chunk) if cpu else lines * n
    group = 1 if cpu else GPU_GROUP
    return [
        Launch(
            kernel="top_k",
            entry="top_k",
            defines=(
                ("FORM", str(int(not cpu))),
                ("T", storage_type(x.dtype)),
                ("ACC", compute_type(x.dtype)),
                ("BETTER(v, w)", _LARGEST if call.params["largest"] else _SMALLEST),
                ("GROUP", str(group)),
            ),
            args=(x, *map(np.int32, (n, inner, lines, k, work.chunk)), call.output),
            global_size=(-(-items // group) * group,),
            local_size=(group,),
            flops=lines * n,
            bytes_moved=x.nbytes + call.output.nbytes,
        )
    ]


register("top_k", Kernel(call="top_k", score=_score, launches=_launches))
