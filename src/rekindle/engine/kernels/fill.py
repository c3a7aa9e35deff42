"""`fill`: one value in every element, any dtype; the kernel sees only its bits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import Context, Kernel, Launch, register
from rekindle.engine.kernels._nest import share
from rekindle.graph.ir import numpy_dtype
from rekindle.graph.lowering import LogicalCall

_BITS = {1: "uchar", 2: "ushort", 4: "uint", 8: "long"}


def _score(call: LogicalCall, _: Context) -> float:
    out = call.output
    # A blocked output would get the value in its channels past C.
    return float(
        not out.layout.block
        and out.dtype is not DType.STRING
        and math.prod(out.static_shape) < 2**31
    )


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    count, itemsize = math.prod(call.output.static_shape), call.output.dtype.itemsize
    if not count:
        return []
    element = np.array([call.params["value"]]).astype(numpy_dtype(call.output.dtype))
    bits = int(element.view(f"u{itemsize}" if itemsize < 8 else "i8")[0])
    work = share(context.target, 1, count)
    return [
        Launch(
            kernel="fill",
            entry="fill",
            defines=(
                ("T", _BITS[itemsize]),
                ("WIDE", "long" if itemsize == 8 else "uint"),
                ("GROUP", str(work.group)),
            ),
            args=(
                np.int64(bits) if itemsize == 8 else np.uint32(bits),
                np.int32(count),
                np.int32(work.chunk),
                call.output,
            ),
            global_size=work.global_size,
            local_size=work.local_size,
            bytes_moved=call.output.nbytes,
        )
    ]


register("fill", Kernel(call="fill", score=_score, launches=_launches))
