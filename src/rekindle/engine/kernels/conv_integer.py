"""`conv_integer`: convolutions of int8 or uint8 with 1 to 3 spatial axes, summed in int32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle.engine.kernels import Context, Kernel, Launch, register
from rekindle.engine.kernels._render import storage_type
from rekindle.engine.kernels._window import window
from rekindle.engine.kernels.matmul_integer import bytes_only, zero_form
from rekindle.graph.lowering import LogicalCall

_CPU_WIDE = 16


def _score(call: LogicalCall, _: Context) -> float:
    x, zero = call.inputs[0], call.inputs[2]
    assert x is not None
    return float(bytes_only(call) and len(x.static_shape) <= 5 and zero_form(zero) != "2")


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    x, w, zx, zw = call.inputs
    assert x is not None
    assert w is not None
    if 0 in call.output.static_shape:
        return []
    m, c_group, *kernel = w.static_shape
    n, c = x.static_shape[:2]
    win = window(call, kernel).lifted(3)
    wide = min(_CPU_WIDE, win.out[2]) if context.target.family == "cpu" else 1
    sizes = (
        c, m, c_group, m // call.params["group"], *win.size, *win.kernel, *win.out,
        *win.strides, *win.pads, *win.dilations,
    )  # fmt: skip
    tiles = win.out[0] * win.out[1] * -(-win.out[2] // wide)
    return [
        Launch(
            kernel="conv_integer",
            entry="conv",
            defines=(
                ("TX", storage_type(x.dtype)),
                ("TW", storage_type(w.dtype)),
                ("ZX", zero_form(zx)),
                ("ZW", zero_form(zw)),
                ("WIDE", str(wide)),
            ),
            args=(
                x, w, *(z for z in (zx, zw) if z is not None), *map(np.int32, sizes), call.output,
            ),
            global_size=(tiles, m, n),
            local_size=None,
            flops=2 * math.prod(call.output.static_shape) * c_group * math.prod(kernel),
            bytes_moved=x.nbytes + w.nbytes + call.output.nbytes,
        )
    ]  # fmt: skip


register("conv_integer", Kernel(call="conv_integer", score=_score, launches=_launches))
