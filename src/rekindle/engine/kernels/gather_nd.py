"""`gather_nd`: slices of x, each at its own place on several leading axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle.engine.kernels import Context, Kernel, Launch, register
from rekindle.engine.kernels._nest import parameters, share
from rekindle.engine.kernels.copy import UNITS
from rekindle.engine.kernels.gather_elements import INDEX, plain
from rekindle.graph.lowering import LogicalCall


def _score(call: LogicalCall, _: Context) -> float:
    x, indices = call.inputs
    assert x is not None
    assert indices is not None
    some = math.prod(x.static_shape) > 0
    return float(plain(x, indices, call.output) and indices.dtype in INDEX and some)


def places(axes: Sequence[int]) -> tuple[tuple[str, ...], str]:
    """Parameters and C that add up `at`, in slices, from the indices `p` of the leading axes."""
    steps = [f"at = at * n{d} + NAME(place)(p[{d}], n{d});" for d in range(len(axes))]
    return tuple(f"const int n{d}" for d in range(len(axes))), " ".join(steps)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    x, indices = call.inputs
    assert x is not None
    assert indices is not None
    batch = call.params["batch"]
    *outer, depth = indices.static_shape
    axes = x.static_shape[batch : batch + depth]
    inner, unit = math.prod(x.static_shape[batch + depth :]), x.dtype.itemsize
    rows, count = math.prod(outer), math.prod(outer[:batch])
    if not rows * inner:
        return []
    while inner % 2 == 0 and unit < 16:
        inner, unit = inner // 2, unit * 2
    declared, code = places(axes)
    work = share(context.target, rows, inner)
    numbers = (*axes, rows // count, math.prod(axes) * inner, rows, inner)
    return [
        Launch(
            kernel="gather_nd",
            entry="gather_nd",
            defines=(
                ("T", UNITS[unit]),
                ("INDEX", INDEX[indices.dtype]),
                ("DEPTH", str(depth)),
                ("PARAMS", parameters(declared)),
                ("PLACE", code),
                ("GROUP", str(work.group)),
            ),
            args=(x, indices, *map(np.int32, numbers), *work.args, call.output),
            global_size=work.global_size,
            local_size=work.local_size,
            bytes_moved=indices.nbytes + 2 * call.output.nbytes,
        )
    ]


register("gather_nd", Kernel(call="gather_nd", score=_score, launches=_launches))
