"""`gather`: whole slices of x along an axis, by index; any dtype, int32 or int64 indices.

An index outside the axis cannot raise on a device: it takes the nearest element.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import DECODES, Context, Kernel, Launch, register
from rekindle.engine.kernels._nest import share
from rekindle.engine.kernels.copy import UNITS
from rekindle.graph.lowering import LogicalCall

_INDEX = {DType.INT32: "int", DType.INT64: "long"}


def _score(call: LogicalCall, _: Context) -> float:
    x, indices = call.inputs
    assert x is not None
    assert indices is not None
    small = max(math.prod(x.static_shape), math.prod(call.output.static_shape)) < 2**31
    plain = not (x.layout.block or indices.layout.block or call.output.layout.block)
    # Something to take, or nothing asked for: an empty axis has no nearest element.
    some = math.prod(x.static_shape) > 0 or math.prod(call.output.static_shape) == 0
    typed = indices.dtype in _INDEX and x.dtype is not DType.STRING
    return float(typed and small and plain and some)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    x, indices = call.inputs
    assert x is not None
    assert indices is not None
    shape, axis = x.static_shape, call.params["axis"]
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    count, unit = math.prod(indices.static_shape), x.dtype.itemsize
    if not outer * count * inner:
        return []
    while inner % 2 == 0 and unit < 16:
        inner, unit = inner // 2, unit * 2
    along = inner == 1
    rows, inner = (outer, count) if along else (outer * count, inner)
    work = share(context.target, rows, inner)
    return [
        Launch(
            kernel="gather",
            entry="gather",
            defines=(
                ("T", UNITS[unit]),
                ("INDEX", _INDEX[indices.dtype]),
                ("ALONG", str(int(along))),
                ("GROUP", str(work.group)),
            ),
            args=(
                x,
                indices,
                *map(np.int32, (shape[axis], count, rows, inner)),
                *work.args,
                call.output,
            ),
            global_size=work.global_size,
            local_size=work.local_size,
            unaligned=(1,),
            bytes_moved=indices.nbytes + 2 * call.output.nbytes,
        )
    ]


register(
    "gather",
    Kernel(call="gather", score=_score, launches=_launches, isa=DECODES),
)
