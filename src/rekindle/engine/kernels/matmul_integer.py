"""`matmul_integer`: products of matrices of int8 or uint8, summed exactly in int32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import Context, Kernel, Launch, Packed, register
from rekindle.engine.kernels._render import storage_type
from rekindle.engine.kernels.gather_elements import plain
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall

_BYTES = (DType.INT8, DType.UINT8)
_CPU_TILE = (4, 16)
_GPU_TILE = (4, 1)


def bytes_only(call: LogicalCall) -> bool:
    """Whether the inputs are bytes, the output int32, and all are row-major."""
    values = [v for v in call.inputs if v is not None]
    typed = all(v.dtype in _BYTES for v in values) and call.output.dtype is DType.INT32
    return typed and plain(*values, call.output)


def zero_form(zero: Value | None) -> str:
    """0: none, 1: one for all, 2: one for each row, column or channel."""
    return "0" if zero is None else "1" if math.prod(zero.static_shape) == 1 else "2"


def _score(call: LogicalCall, _: Context) -> float:
    return float(bytes_only(call))


def _offsets(call: LogicalCall, batch: tuple[int, ...]) -> Packed:
    """int32 (batches, 2): the numbers of each batch's matrices in a and in b."""
    columns = []
    for value in call.inputs[:2]:
        assert value is not None
        own = value.static_shape[:-2]
        numbers = np.arange(math.prod(own)).reshape(own)
        columns.append(np.broadcast_to(numbers, batch).reshape(-1))
    table = np.stack(columns, axis=1).astype(np.int32)
    return Packed(f"matrices:{call.output.name}", table.nbytes, lambda: table)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    a, b, za, zb = call.inputs
    assert a is not None
    assert b is not None
    *batch, m, n = call.output.static_shape
    k, batches = a.static_shape[-1], math.prod(batch)
    if not m * n * batches:
        return []
    rows, columns = _CPU_TILE if context.target.family == "cpu" else _GPU_TILE
    return [
        Launch(
            kernel="matmul_integer",
            entry="matmul",
            defines=(
                ("TA", storage_type(a.dtype)),
                ("TB", storage_type(b.dtype)),
                ("ZA", zero_form(za)),
                ("ZB", zero_form(zb)),
                ("ROWS", str(rows)),
                ("COLUMNS", str(columns)),
            ),
            args=(
                a, b, *(z for z in (za, zb) if z is not None), _offsets(call, tuple(batch)),
                *map(np.int32, (m, n, k)), call.output,
            ),
            global_size=(-(-n // columns), -(-m // rows), batches),
            local_size=None,
            flops=2 * batches * m * n * k,
            bytes_moved=a.nbytes + b.nbytes + call.output.nbytes,
        )
    ]  # fmt: skip


register("matmul_integer", Kernel(call="matmul_integer", score=_score, launches=_launches))
