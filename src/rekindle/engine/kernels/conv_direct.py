"""`conv` by its definition: any rank to 3, group, window, layout; weights may be computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle.engine.kernels import Context, Kernel, Launch, Packed, register
from rekindle.engine.kernels._conv import has_floats
from rekindle.engine.kernels._epilogue import epilogue, takes
from rekindle.engine.kernels._render import storage_type
from rekindle.engine.kernels._weights import FLOAT, raw, weights_of
from rekindle.engine.kernels._window import window
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall


def _score(call: LogicalCall, _: Context) -> float:
    x, w = call.inputs[:2]
    assert x is not None
    assert w is not None
    floats = has_floats(call)
    rank = len(x.static_shape) - 2
    return float(floats and 1 <= rank <= 3 and not w.layout.block and takes(call, 3))


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
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
    weights = _weights(call, w, context)
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
                ("XT", storage_type(x.dtype)),
                ("WT", storage_type(weights.dtype) if isinstance(weights, Value) else FLOAT),
                ("BT", storage_type(bias.dtype) if bias is not None else FLOAT),
                ("YT", storage_type(y.dtype)),
                *end.defines,
            ),
            args=(x, weights, *([bias] if bias else []), *map(np.int32, sizes), *end.args, y),
            global_size=(positions, -(-m // block) * block if block else m, n),
            local_size=None,
            flops=sums * (2 * c_group * math.prod(kernel) + end.flops),
            bytes_moved=x.nbytes + w.nbytes + y.nbytes + end.nbytes,
        )
    ]


def _weights(call: LogicalCall, w: Value, context: Context) -> Value | Packed:
    """As they lie; integers are widened, for speed is not what this kernel is for."""
    if call.params.get("decode") is None:
        return w
    array = context.constant(w.name)
    assert array is not None
    return raw(weights_of(w.name, array, call.params["decode"], (FLOAT,)))


register("conv_direct", Kernel(call="conv", score=_score, launches=_launches))
