"""`gather_elements`: an element of x for each index, which replaces its place along one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import Context, Kernel, Launch, register
from rekindle.engine.kernels._nest import Nest, index_code, parameters, row_major_strides, share
from rekindle.engine.kernels.copy import UNITS
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall

INDEX = {DType.INT32: "int", DType.INT64: "long"}
"""C types of the indices that kernels read."""


def plain(*values: Value | None) -> bool:
    """Whether all values are row-major, no strings, and within 32-bit indices."""
    return all(
        v is None
        or (
            not v.layout.block and v.dtype is not DType.STRING and math.prod(v.static_shape) < 2**31
        )
        for v in values
    )


def _score(call: LogicalCall, _: Context) -> float:
    x, indices = call.inputs
    assert x is not None
    assert indices is not None
    some = math.prod(x.static_shape) > 0
    return float(plain(x, indices, call.output) and indices.dtype in INDEX and some)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    x, indices = call.inputs
    assert x is not None
    assert indices is not None
    axis, count = call.params["axis"], math.prod(indices.static_shape)
    if not count:
        return []
    strides = row_major_strides(x.static_shape)
    around = tuple(0 if d == axis else s for d, s in enumerate(strides))
    code = index_code(Nest(indices.static_shape, (around,)).merged(), "i", ("ox",))
    work = share(context.target, 1, count)
    stride = math.prod(x.static_shape[axis + 1 :])
    return [
        Launch(
            kernel="gather_elements",
            entry="gather_elements",
            defines=(
                ("T", UNITS[x.dtype.itemsize]),
                ("INDEX", INDEX[indices.dtype]),
                ("PARAMS", parameters(code.params)),
                ("OFFSETS", code.code),
                ("GROUP", str(work.group)),
            ),
            args=(
                x, indices, *code.args, np.int32(x.static_shape[axis]), np.int32(stride),
                np.int32(count), np.int32(work.chunk), call.output,
            ),
            global_size=work.global_size,
            local_size=work.local_size,
            bytes_moved=indices.nbytes + 2 * call.output.nbytes,
        )
    ]  # fmt: skip


register("gather_elements", Kernel(call="gather_elements", score=_score, launches=_launches))
