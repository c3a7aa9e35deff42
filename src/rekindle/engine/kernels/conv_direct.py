"""`conv` by its definition: any rank to 3, group, window, layout; weights may be computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import Context, Kernel, Launch, register
from rekindle.engine.kernels._epilogue import epilogue, takes
from rekindle.engine.kernels._window import window
from rekindle.graph.lowering import LogicalCall


def _score(call: LogicalCall, _: Context) -> float:
    x, w, bias = call.inputs[:3]
    assert x is not None
    assert w is not None
    floats = all(v.dtype is DType.FLOAT32 for v in (x, w, bias, call.output) if v)
    rank = len(x.static_shape) - 2
    return float(floats and 1 <= rank <= 3 and not w.layout.block and takes(call, 3))


def _launches(call: LogicalCall, _: Context) -> Sequence[Launch]:
    x, w, bias = call.inputs[:3]
    assert x is not None
    assert w is not None
    y = call.output
    if 0 in y.static_shape:
        return []
    m, c_group, *kernel = w.static_shape
    n, c = x.static_shape[:2]
    win = window(call, kernel).lifted(3)
    end = epilogue(call, 3, lanes=1)
    sizes = (
        c, m, c_group, m // call.params["group"], *win.size, *win.kernel, *win.out,
        *win.strides, *win.pads, *win.dilations,
    )  # fmt: skip
    positions = math.prod(win.out)
    sums = n * m * positions
    block = y.layout.block
    return [
        Launch(
            kernel="conv_direct",
            entry="conv",
            defines=(
                ("XB", str(x.layout.block)),
                ("YB", str(block)),
                ("BIAS", str(int(bias is not None))),
                *end.defines,
            ),
            args=(x, w, *([bias] if bias else []), *map(np.int32, sizes), *end.args, y),
            global_size=(positions, -(-m // block) * block if block else m, n),
            local_size=None,
            flops=sums * (2 * c_group * math.prod(kernel) + end.flops),
            bytes_moved=x.nbytes + w.nbytes + y.nbytes + end.nbytes,
        )
    ]


register("conv_direct", Kernel(call="conv", score=_score, launches=_launches))
