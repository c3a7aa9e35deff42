"""What the matrix-product kernels share: a call's sizes, batches and epilogue."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rekindle.engine.kernels import Argument, Context, Packed
from rekindle.engine.kernels._epilogue import Epilogue, epilogue, operands
from rekindle.engine.kernels._packing import zeros
from rekindle.engine.kernels._render import SINGLE, storage_type
from rekindle.engine.kernels._weights import (
    BFLOAT16,
    FLOAT,
    HALF,
    INT4,
    INT8,
    Weights,
    weights_of,
)
from rekindle.graph.decode import Decode
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
        """Operands are read with `EPILOGUE_READ(row, col)`, the batch's offsets in `table`.

        Templates call the number of columns `N`.
        """
        return epilogue(self.call, 2, lanes, self._reader(lanes), position="row, col")

    def _reader(self, lanes: int) -> Callable[[int, Value], str]:
        kind = "float" if lanes == 1 else f"float{lanes}"

        def read(number: int, value: Value) -> str:
            stored = storage_type(value.dtype)
            rows, columns = self.operand_dims[number - 1][-2:]
            at = f"e{number} + table[{number + 1}]"
            # By name, so that products of other sizes share the program.
            at += f" + (row) * {'N' if columns == self.n else columns}" if rows > 1 else ""
            if columns == 1 or lanes == 1:
                at += " + (col)" if columns > 1 else ""
                return f"const {kind} r{number} = ({kind})(rk1_load({stored}, {at}, 0));"
            return f"const {kind} r{number} = rk_load_any({lanes}, {stored}, {at} + (col));"

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


def weights(what: Product, context: Context, decodes: Collection[str]) -> Weights | None:
    """A constant b in one of the storage types `decodes`; None: it is computed.

    Its array is (matrices, K, N), whichever way b lies, and so are the scales.
    """
    array = context.constant(what.b.name)
    if array is None:
        return None
    decode: Decode | None = what.call.params.get("decode")
    if decode is not None:
        axis = decode.axis % array.ndim - array.ndim
        if what.transpose_b:
            axis = -3 - axis
        decode = Decode(_matrices(decode.scale, what.transpose_b), axis, decode.group)
        whole = what.matrices_b == 1 and (axis == -2 if decode.group else True)
        whole = whole and (decode.group > 0 or decode.scale.shape[1] == 1)
        if not whole:
            array, decode = decode(_matrices(array, what.transpose_b)), None
            return weights_of(what.b.name, array, None, (FLOAT,))
    return weights_of(what.b.name, _matrices(array, what.transpose_b), decode, decodes)


@dataclass(frozen=True)
class Terms:
    """b as GPU kernels read it: row by row, term after term."""

    b: Argument
    transposed: bool
    """Whether b is (N, K)."""
    defines: tuple[tuple[str, str], ...]
    scales: tuple[Argument, ...]
    """Factors of the columns, or of groups of terms, and how many terms share one."""


def terms(what: Product, context: Context, *, upright: bool = False) -> Terms:
    """B as it lies, if it is stored in a type of its own; quantised or `upright`: (K, N)."""
    found = weights(what, context, (FLOAT, HALF, BFLOAT16, INT8, INT4))
    coded = what.call.params.get("decode") is not None
    if found is None or not (coded or (upright and what.transpose_b)):
        plain = Weights("", np.zeros(0, np.float32), storage_type(what.b.dtype))
        return Terms(what.b, what.transpose_b, plain.defines("BT"), ())

    def in_pairs() -> Array:
        full = np.pad(found.array, [(0, 0), (0, what.k % 2), (0, 0)])
        low, high = ((full[:, i::2] + 8).astype(np.uint8) for i in (0, 1))
        return np.asarray(low | high << 4)

    scales: tuple[Argument, ...] = ()
    if found.decode is not None:
        scales = (_term_scales(what, found.decode), np.int32(found.group))
    packed = found.packed("terms", found.array.size, lambda: found.array)
    if found.storage == INT4:
        count = found.array.shape[0] * -(-what.k // 2) * what.n
        packed = replace(packed, nbytes=count, pack=in_pairs)
    return Terms(packed, False, found.defines("BT"), scales)


def quads(what: Product, context: Context) -> Terms:
    """A constant b without groups, four terms of a column side by side.

    As (matrices, K / 4, N up to a multiple of 4, 4), zero past K and N.
    """
    found = weights(what, context, (FLOAT, HALF, BFLOAT16, INT8))
    assert found is not None
    matrices, k, n = found.array.shape
    rows, columns = -(-k // 4), -(-n // 4) * 4

    def arrange() -> Array:
        full = found.zeros((matrices, rows * 4, columns))
        full[:, :k, :n] = found.array
        return full.reshape(matrices, rows, 4, columns).swapaxes(2, 3)

    packed = found.packed("quads", matrices * rows * columns * 4, arrange)
    scales = () if found.decode is None else (_term_scales(what, found.decode),)
    return Terms(packed, False, found.defines("BT"), scales)


def _term_scales(what: Product, decode: Decode) -> Packed:
    """Scales (1, groups or 1, N or 1) as (groups or 1, N)."""
    shape = (decode.scale.shape[1], what.n)

    def pack() -> Array:
        return np.ascontiguousarray(np.broadcast_to(decode.scale[0], shape), np.float32)

    return Packed(f"term_scales:{what.b.name}", 4 * math.prod(shape), pack)


def _matrices(b: Array, transposed: bool) -> Array:
    full = b.reshape(-1, *b.shape[-2:])
    return full.swapaxes(1, 2) if transposed else full


def takes(call: LogicalCall) -> bool:
    """Whether all are floats of 32 or 16 bits and row-major, and the sum has terms."""
    a, b, *rest = call.inputs
    coded = call.params.get("decode") is not None
    floats = [v for v in (a, None if coded else b, *rest, call.output) if v is not None]
    plain = all(v.dtype in SINGLE and not v.layout.block for v in floats)
    return plain and product(call).k > 0
