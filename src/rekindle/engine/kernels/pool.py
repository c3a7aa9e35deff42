"""`pool`: the largest or the average element of a window, in any layout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import DECODES, Context, Kernel, Launch, register
from rekindle.engine.kernels._render import SINGLE, storage_type
from rekindle.engine.kernels._tile import jobs_wanted, vector_width
from rekindle.engine.kernels._window import window
from rekindle.graph.lowering import LogicalCall

_ELEMENTS = {
    DType.FLOAT32: ("float", "-INFINITY"),
    DType.FLOAT16: ("float", "-INFINITY"),
    DType.BFLOAT16: ("float", "-INFINITY"),
    DType.INT8: ("char", "-128"),
    DType.UINT8: ("uchar", "0"),
}
"""C type that is computed with, and the lowest element."""


_UNROLLED = 3
"""Widest window with a loop of its own, which takes three quarters of the time (measured)."""


def _score(call: LogicalCall, context: Context) -> float:
    x, y = call.inputs[0], call.output
    assert x is not None
    if x.layout != y.layout or x.dtype is not y.dtype or not 3 <= len(x.static_shape) <= 5:
        return 0
    if x.dtype in SINGLE:
        return float(x.layout.block in (0, context.target.channel_block))
    # Bytes have a largest element, and no average that ONNX defines.
    return float(x.dtype in _ELEMENTS and call.params["kind"] == "max" and not x.layout.block)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    x, y = call.inputs[0], call.output
    assert x is not None
    if 0 in y.static_shape:
        return []
    largest = call.params["kind"] == "max"
    n, c = y.static_shape[:2]
    win = window(call, call.params["kernel"]).lifted(3)
    element, lowest = _ELEMENTS[x.dtype]
    block = x.layout.block or 1
    width = min(block, vector_width(context.target))
    planes, rows, columns = n * -(-c // block), win.out[0] * win.out[1], win.out[2]
    single = context.target.family == "cpu"
    wide = win.kernel[2] if largest and 1 < win.kernel[2] <= _UNROLLED else 0
    per_job = -(-rows // min(jobs_wanted(context.target, planes), rows))
    sizes = (
        c, *win.size, *win.out, *win.kernel, *win.strides, *win.pads, *win.pads_end,
        *win.dilations, per_job,
    )  # fmt: skip
    return [
        Launch(
            kernel="pool",
            entry="pool",
            defines=(
                ("MAX", str(int(largest))),
                ("COUNT_PAD", str(int(call.params["count_include_pad"]))),
                ("B", str(block)),
                ("T", storage_type(x.dtype)),
                ("V", element if width == 1 else f"{element}{width}"),
                ("VW", str(width)),
                ("FLOATS", str(int(x.dtype.is_float))),
                ("LOWEST", lowest),
                ("SINGLE", str(int(single))),
                ("WIDE", str(wide)),
            ),
            args=(x, *map(np.int32, sizes), y),
            global_size=(-(-rows // per_job), 1, planes) if single else (columns, rows, planes),
            local_size=(1, 1, 1) if single else None,
            flops=math.prod(y.static_shape) * math.prod(map(min, win.kernel, win.size)),
            bytes_moved=x.nbytes + y.nbytes,
        )
    ]


register(
    "pool",
    Kernel(call="pool", score=_score, launches=_launches, isa=DECODES),
)
