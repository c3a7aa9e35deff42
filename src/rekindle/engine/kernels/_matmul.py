"""What the matrix-product kernels share: a call's sizes, batches and epilogue."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import Packed
from rekindle.engine.kernels._epilogue import Epilogue, epilogue, operands
from rekindle.engine.kernels._packing import zeros
from rekindle.graph.ir import Array, Value
from rekindle.graph.lowering import LogicalCall

Dims = tuple[int, ...]
_INT = 4


@dataclass(frozen=True)
class Product:
    """A `matmul` call as `batch` products of (m, k) by (k, n) matrices.

    `operand_dims` are the epilogue's operands' shapes, as long as `batch` + (m, n).
    """

    call: LogicalCall
    a: Value
    b: Value
    batch: Dims
    m: int
    n: int
    k: int
    operand_dims: tuple[Dims, ...]

    @property
    def transpose_a(self) -> bool:
        return bool(self.call.params["transpose_a"])

    @property
    def transpose_b(self) -> bool:
        return bool(self.call.params["transpose_b"])

    @property
    def batches(self) -> int:
        return math.prod(self.batch)

    @property
    def matrices_b(self) -> int:
        return math.prod(self.b.static_shape[:-2])

    @property
    def row_ints(self) -> int:
        """Numbers in a row of `offsets`."""
        return 2 + len(self.operand_dims)

    @cached_property
    def offsets(self) -> Packed:
        """int32 (batches, 2 + operands): first element of a, number of b's matrix, operands'."""
        if self.batches == 1:
            return zeros(self.row_ints)

        def pack() -> Array:  # not before the plan is accepted: it may be large
            columns = [
                self._steps(self.a.static_shape[:-2], self.m * self.k),
                self._steps(self.b.static_shape[:-2], 1),
                *(self._steps(d[:-2], d[-2] * d[-1]) for d in self.operand_dims),
            ]
            return np.stack(columns, axis=1).astype(np.int32)

        nbytes = self.batches * self.row_ints * _INT
        # Named by what it depends on: products of equal shapes share it, other shapes never do.
        dims = (self.batch, self.a.static_shape, self.b.static_shape, self.operand_dims)
        return Packed(f"offsets:{self.m}x{self.n}x{self.k}:{dims}", nbytes, pack)

    def _steps(self, dims: Dims, matrix: int) -> Array:
        """Where each batch's matrix begins in a value of batch dimensions `dims`."""
        numbers = np.arange(math.prod(dims)).reshape(dims) * matrix
        return np.broadcast_to(numbers, self.batch).reshape(-1)

    def flops(self, each: int) -> int:
        return self.batches * self.m * self.n * (2 * self.k + each)

    @property
    def nbytes(self) -> int:
        return self.a.nbytes + self.b.nbytes + self.call.output.nbytes

    def epilogue(self, lanes: int) -> Epilogue:
        """Operands are read with `EPILOGUE_READ(row, col)`, the batch's offsets in `table`."""
        return epilogue(self.call, 2, lanes, self._reader(lanes), position="row, col")

    def _reader(self, lanes: int) -> Callable[[int, Value], str]:
        kind = "float" if lanes == 1 else f"float{lanes}"

        def read(number: int, _: Value) -> str:
            rows, columns = self.operand_dims[number - 1][-2:]
            at = f"e{number} + table[{number + 1}]"
            # By name, so that products of other sizes share the program.
            at += f" + (row) * {'N' if columns == self.n else columns}" if rows > 1 else ""
            if columns == 1 or lanes == 1:
                at += " + (col)" if columns > 1 else ""
                return f"const {kind} r{number} = ({kind})(*({at}));"
            return f"const {kind} r{number} = LOAD({at} + (col));"

        return read


def product(call: LogicalCall) -> Product:
    """The call in numbers; a batch that only `a` has becomes rows of one product."""
    a, b = call.inputs[:2]
    assert a is not None
    assert b is not None
    *batch, m, n = call.output.static_shape
    k = b.static_shape[-1 if call.params["transpose_b"] else -2]
    rank = len(batch) + 2
    dims = tuple((1,) * (rank - len(v.static_shape)) + v.static_shape for v in operands(call, 2))
    flat = tuple(_flattened(d, (*batch, m, n)) for d in dims)
    one_b = math.prod(b.static_shape[:-2]) == 1
    same_a = math.prod(a.static_shape[:-2]) == math.prod(batch)
    if one_b and same_a and not call.params["transpose_a"] and None not in flat:
        known = tuple(d for d in flat if d is not None)
        return Product(call, a, b, (), math.prod(batch) * m, n, k, known)
    return Product(call, a, b, tuple(batch), m, n, k, dims)


def _flattened(dims: Dims, out: Dims) -> Dims | None:
    """An operand's shape when all axes but the last become one; None where they cannot."""
    if math.prod(dims[:-1]) == 1:
        return (1, dims[-1])
    return (math.prod(dims[:-1]), dims[-1]) if dims[:-1] == out[:-1] else None


def takes(call: LogicalCall) -> bool:
    """Whether everything is float32 and row-major, and the sum has terms."""
    values = [v for v in (*call.inputs, call.output) if v is not None]
    plain = all(v.dtype is DType.FLOAT32 and not v.layout.block for v in values)
    return plain and product(call).k > 0
