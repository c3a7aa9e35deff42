"""`scatter_elements` and `scatter_nd`: updates written to, or joined with, a copy of x by index.

Without atomics: one work-item meets all updates of an element in their order, so that results
are the same in every run, and the last of several writes to one place stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType, Target
from rekindle.engine.kernels import Context, Kernel, Launch, register
from rekindle.engine.kernels._nest import (
    GPU_GROUP,
    Nest,
    index_code,
    parameters,
    row_major_strides,
    share,
)
from rekindle.engine.kernels._render import storage_type
from rekindle.engine.kernels.copy import Move, copy_launches
from rekindle.engine.kernels.gather_elements import INDEX, plain
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall

NAMES = ("scatter_elements", "scatter_nd")

_BITS = {1: "uchar", 2: "ushort", 4: "uint", 8: "ulong"}
_GPU_ITEMS = 4096
"""Work-items that a launch over slices should have at least, where there are places enough."""


def _score(call: LogicalCall, context: Context) -> float:
    x, indices, updates = call.inputs
    assert x is not None
    assert indices is not None
    typed = indices.dtype in INDEX and (x.dtype is not DType.FLOAT64 or context.target.fp64)
    joins = call.params["reduction"] == "none" or x.dtype is not DType.BOOL
    return float(plain(x, indices, updates, call.output) and typed and joins)


def _join(dtype: DType, reduction: str) -> tuple[tuple[str, str], ...]:
    """The storage type, and what becomes of two values."""
    if reduction == "none":
        return ("T", _BITS[dtype.itemsize]), ("JOIN(a, b)", "(b)")
    symbols = {"add": "((a) + (b))", "mul": "((a) * (b))"}
    prefix = ""
    if dtype.is_float:
        prefix = "rk1_double_" if dtype is DType.FLOAT64 else "rk1_"
    joined = symbols.get(reduction, f"{prefix}{reduction}(a, b)")
    return ("T", storage_type(dtype)), ("JOIN(a, b)", joined)


def _copied(call: LogicalCall, target: Target) -> Sequence[Launch]:
    x = call.inputs[0]
    assert x is not None
    count = math.prod(x.static_shape)
    move = Move(Nest((count,), ((1,), (1,))), 0, 0, x.dtype.itemsize)
    return copy_launches(x, call.output, move, target)


def _parts(call: LogicalCall) -> tuple[Value, Value, Value]:
    x, indices, updates = call.inputs
    assert x is not None
    assert indices is not None
    assert updates is not None
    return x, indices, updates


def _elements(call: LogicalCall, context: Context) -> Sequence[Launch]:
    x, indices, updates = _parts(call)
    first = _copied(call, context.target)
    if not math.prod(indices.static_shape):
        return first
    axis = call.params["axis"]
    own, other = (row_major_strides(v.static_shape) for v in (indices, x))
    around = [d for d in range(len(own)) if d != axis]
    nest = Nest(
        tuple(indices.static_shape[d] for d in around),
        (tuple(own[d] for d in around), tuple(other[d] for d in around)),
    )
    code = index_code(nest.merged(), "i", ("ou", "oy"))
    length, size = indices.static_shape[axis], x.static_shape[axis]
    work = share(context.target, 1, nest.count, length)
    step, stride = (math.prod(v.static_shape[axis + 1 :]) for v in (indices, x))
    return [
        *first,
        Launch(
            kernel="scatter",
            entry="scatter",
            defines=(
                ("FORM", "0"),
                *_join(x.dtype, call.params["reduction"]),
                ("INDEX", INDEX[indices.dtype]),
                ("PARAMS", parameters(code.params)),
                ("OFFSETS", code.code),
                ("GROUP", str(work.group)),
            ),
            args=(
                indices, updates, *code.args,
                *map(np.int32, (nest.count, length, step, size, stride, work.chunk)),
                call.output,
            ),
            global_size=work.global_size,
            local_size=work.local_size,
            bytes_moved=indices.nbytes + 3 * updates.nbytes,
        ),
    ]  # fmt: skip


def _slices(call: LogicalCall, context: Context) -> Sequence[Launch]:
    x, indices, updates = _parts(call)
    first = _copied(call, context.target)
    *outer, depth = indices.static_shape
    rows, axes = math.prod(outer), x.static_shape[:depth]
    inner, places = math.prod(x.static_shape[depth:]), math.prod(axes)
    if not rows * inner * places:
        return first
    cpu = context.target.family == "cpu"
    wanted = 4 * context.target.compute_units if cpu else _GPU_ITEMS
    parts = max(1, min(places, -(-wanted // inner)))
    group = 1 if cpu else GPU_GROUP
    steps = [f"at = NAME(place)(at, p[{d}], n{d});" for d in range(depth)]
    declared = [f"const int n{d}" for d in range(depth)]
    return [
        *first,
        Launch(
            kernel="scatter",
            entry="scatter",
            defines=(
                ("FORM", "1"),
                *_join(x.dtype, call.params["reduction"]),
                ("INDEX", INDEX[indices.dtype]),
                ("DEPTH", str(depth)),
                ("PARAMS", parameters(declared)),
                ("PLACE", " ".join(steps)),
                ("GROUP", str(group)),
            ),
            args=(
                indices, updates, *map(np.int32, (*axes, rows, inner, places, parts)),
                call.output,
            ),
            global_size=(-(-parts * inner // group) * group,),
            local_size=(group,),
            bytes_moved=indices.nbytes + 3 * updates.nbytes,
        ),
    ]  # fmt: skip


register("scatter_elements", Kernel(call="scatter_elements", score=_score, launches=_elements))
register("scatter_nd", Kernel(call="scatter_nd", score=_score, launches=_slices))
