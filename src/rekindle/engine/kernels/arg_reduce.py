"""`arg_reduce`: the index of the greatest or least element along one axis, any numeric dtype.

Equal elements: the first of them, or the last where the call says so. NaN as ONNX Runtime has it:
in front it wins, elsewhere it is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import Context, Kernel, Launch, register
from rekindle.engine.kernels._nest import GPU_GROUP, Share, share
from rekindle.engine.kernels._render import compute_type, storage_type
from rekindle.graph.lowering import LogicalCall

_WIDE = 16
"""Neighbours a CPU compares at once."""


def _score(call: LogicalCall, context: Context) -> float:
    (x,) = call.inputs
    assert x is not None
    if x.dtype is DType.STRING or (x.dtype is DType.FLOAT64 and not context.target.fp64):
        return 0.0
    plain = not x.layout.block and not call.output.layout.block
    some = x.static_shape[call.params["axis"]] > 0
    fits = math.prod(x.static_shape) < 2**31
    return float(plain and some and fits and call.output.dtype is DType.INT64)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    (x,) = call.inputs
    assert x is not None
    shape, where = x.static_shape, call.params["axis"]
    rows, axis, inner = math.prod(shape[:where]), shape[where], math.prod(shape[where + 1 :])
    if not rows * inner:
        return []
    cpu = context.target.family == "cpu"
    wide = _WIDE if cpu and inner >= _WIDE else 1
    steps = -(-inner // wide)
    work = share(context.target, rows, steps, axis * wide)
    coop = GPU_GROUP if not cpu and inner == 1 and axis >= GPU_GROUP else 1
    if coop > 1:
        work = Share(1, 1, rows * coop, coop)
    return [
        Launch(
            kernel="arg_reduce",
            entry="arg_reduce",
            defines=(
                ("T", storage_type(x.dtype)),
                ("ACC", compute_type(x.dtype)),
                ("WIDE", str(wide)),
                ("COOP", str(coop)),
                ("GROUP", str(work.group)),
                *_order(call.params["kind"], call.params["last"]),
            ),
            args=(x, *map(np.int32, (axis, inner, rows, steps)), *work.args, call.output),
            global_size=work.global_size,
            local_size=work.local_size,
            flops=rows * axis * inner,
            bytes_moved=x.nbytes + call.output.nbytes,
        )
    ]


def _order(kind: str, last: bool) -> tuple[tuple[str, str], ...]:
    symbol = ">" if kind == "max" else "<"
    return (
        ("BETTER(v, b)", f"((v) {symbol}{'=' if last else ''} (b))"),
        ("STRICTLY_BETTER(v, b)", f"((v) {symbol} (b))"),
        ("SOONER(i, j)", f"((i) {'>' if last else '<'} (j))"),
    )


register("arg_reduce", Kernel(call="arg_reduce", score=_score, launches=_launches))
