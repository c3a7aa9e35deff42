"""`softmax` and its logarithm along any axis, row-major; 16-bit floats are computed in float32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import DECODES, Context, Kernel, Launch, register
from rekindle.engine.kernels._nest import GPU_GROUP, Share, share
from rekindle.engine.kernels._render import SINGLE, storage_type
from rekindle.graph.lowering import LogicalCall

_EXP_FLOPS = 20
_COOP_FROM = 32
"""Axis length from which a wave shares a row."""


def _score(call: LogicalCall, _: Context) -> float:
    (x,) = call.inputs
    assert x is not None
    plain = not x.layout.block and not call.output.layout.block
    same = x.dtype is call.output.dtype and x.dtype in SINGLE
    return float(plain and same and math.prod(x.static_shape) < 2**31)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    (x,) = call.inputs
    assert x is not None
    shape, where = x.static_shape, call.params["axis"]
    rows, axis, inner = math.prod(shape[:where]), shape[where], math.prod(shape[where + 1 :])
    if not rows * axis * inner:
        return []
    target, float32 = context.target, x.dtype is DType.FLOAT32
    cpu, block = target.family == "cpu", target.channel_block
    form, coop = int(inner > 1), 1
    # On a GPU, a wave reads neighbours on the axis one each.
    lanes = block if (inner if form else axis) >= block and (cpu or form) else 1
    steps = -(-inner // lanes)
    work = share(target, rows, steps, 8 * axis * (lanes if form else 1))
    if not form and not cpu and axis >= _COOP_FROM:
        coop = GPU_GROUP
        work = Share(1, 1, rows * coop, coop)
    log = bool(call.params["log"])
    sizes = (rows, axis, inner, steps, work.chunk) if form else (rows, axis)
    return [
        Launch(
            kernel="softmax",
            entry="softmax",
            defines=(
                ("FORM", str(form)),
                ("T", storage_type(x.dtype)),
                ("LANES", str(lanes)),
                ("F(f)", f"rk{lanes}_##f"),
                ("COOP", str(coop)),
                ("LOG", str(int(log))),
                ("KEEP", str(int(float32 and not log and not form))),
                ("GROUP", str(work.group)),
            ),
            args=(x, *map(np.int32, (*sizes, work.per_item)), call.output),
            global_size=work.global_size,
            local_size=work.local_size,
            flops=(_EXP_FLOPS + 3) * rows * axis * inner,
            bytes_moved=x.nbytes + call.output.nbytes,
        )
    ]


register(
    "softmax",
    Kernel(call="softmax", score=_score, launches=_launches, isa=DECODES),
)
