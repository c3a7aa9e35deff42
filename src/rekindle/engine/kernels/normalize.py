"""`normalize`: rows to zero mean and unit variance, then scale and bias, in one launch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import Context, Kernel, Launch, register
from rekindle.engine.kernels._nest import GPU_GROUP, Share, share
from rekindle.engine.kernels._render import SINGLE, storage_type
from rekindle.graph.lowering import LogicalCall

_FLOPS_EACH = 8
_COOP_FROM = 32
"""Row length from which a wave shares a row."""


def _score(call: LogicalCall, _: Context) -> float:
    x, *affine = (v for v in call.inputs if v is not None)
    values = (x, *affine, call.output)
    plain = not any(v.layout.block for v in values)
    same = x.dtype is call.output.dtype and all(v.dtype in SINGLE for v in values)
    one = len({v.dtype for v in affine}) <= 1
    return float(plain and same and one and math.prod(x.static_shape) < 2**31)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    x, *affine = (v for v in call.inputs if v is not None)
    length = call.params["length"]
    rows = math.prod(x.static_shape) // length if length else 0
    if not rows:
        return []
    target = context.target
    scales = affine[0].dtype if affine else DType.FLOAT32
    period, step, inner = call.params["affine"]
    lanes, coop = 1, 1
    if target.family == "cpu" and length >= 8:
        lanes = 16 if target.wavefront >= 16 and length >= 16 else 8
    work = share(target, rows, 1, _FLOPS_EACH * length)
    if target.family != "cpu" and length >= _COOP_FROM:
        coop = GPU_GROUP
        work = Share(1, 1, rows * coop, coop)
    sizes = (rows, length, work.per_item, period, step, inner)
    return [
        Launch(
            kernel="normalize",
            entry="standardize",  # PoCL defines a macro `normalize`
            defines=(
                ("T", storage_type(x.dtype)),
                ("TS", storage_type(scales)),
                ("LANES", str(lanes)),
                ("COOP", str(coop)),
                ("GROUP", str(work.group)),
                ("RMS", str(int(call.params["rms"]))),
                ("AFFINE", str(len(affine))),
                ("SEGMENTS", str(int(bool(affine) and inner > 1))),
            ),
            args=(
                x,
                *affine,
                *map(np.int32, sizes),
                np.float32(call.params["epsilon"]),
                call.output,
            ),
            global_size=work.global_size,
            local_size=work.local_size,
            flops=_FLOPS_EACH * rows * length,
            bytes_moved=x.nbytes + call.output.nbytes,
        )
    ]


register("normalize", Kernel(call="normalize", score=_score, launches=_launches))
