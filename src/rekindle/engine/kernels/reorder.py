"""`reorder` between row-major and the channel-blocked layout, any dtype and spatial rank.

Where the channels fill their blocks this is an affine copy, and `copy` does it by tiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import DECODES, Context, Kernel, Launch, register
from rekindle.engine.kernels._nest import Nest, row_major_strides, share
from rekindle.engine.kernels.copy import Move, copy_launches
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall

_BITS = {1: "uchar", 2: "ushort", 4: "uint", 8: "ulong"}


def _score(call: LogicalCall, _: Context) -> float:
    (x,) = call.inputs
    assert x is not None
    y = call.output
    one_side = (x.layout.block == 0) != (y.layout.block == 0)
    same = x.dtype is y.dtype and x.dtype is not DType.STRING
    size = max(x.nbytes, y.nbytes) // x.dtype.itemsize if same else 0
    return float(one_side and same and size < 2**31 and len(x.static_shape) >= 2)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    (x,) = call.inputs
    assert x is not None
    y = call.output
    if 0 in y.static_shape:
        return []
    block = x.layout.block or y.layout.block
    n, channels, *spatial = y.static_shape
    if channels % block == 0:
        return copy_launches(x, y, _affine(x, y, block), context.target)
    rows, positions = n * -(-channels // block), math.prod(spatial)
    work = share(context.target, rows, positions, block)
    return [
        Launch(
            kernel="reorder",
            entry="reorder",
            defines=(
                ("T", _BITS[x.dtype.itemsize]),
                ("BLOCK", str(block)),
                ("PACK", str(int(y.layout.block > 0))),
                ("GROUP", str(work.group)),
            ),
            args=(x, *map(np.int32, (channels, rows, positions)), *work.args, y),
            global_size=work.global_size,
            local_size=work.local_size,
            bytes_moved=x.nbytes + y.nbytes,
        )
    ]


def _affine(x: Value, y: Value, block: int) -> Move:
    """The copy over (n, block, positions, lane)."""
    n, channels, *spatial = y.static_shape
    positions = math.prod(spatial)
    sizes = (n, channels // block, positions, block)
    plain = (channels * positions, block * positions, 1, positions)
    blocked = row_major_strides(sizes)
    strides = (plain, blocked) if y.layout.block else (blocked, plain)
    return Move(Nest(sizes, strides), 0, 0, x.dtype.itemsize)


register(
    "reorder",
    Kernel(call="reorder", score=_score, launches=_launches, isa=DECODES),
)
