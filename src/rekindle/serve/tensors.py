"""Tensors on the wire: the Open Inference Protocol's datatypes and bytes.

Raw data is row-major, little-endian, without padding; BOOL is one byte; an element of BYTES is
four bytes of length and its content (the binary tensor data extension).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from rekindle._errors import InputError
from rekindle._types import DType
from rekindle.graph.ir import Array, dtype_of, numpy_dtype

DATATYPES = {
    DType.BOOL: "BOOL",
    DType.UINT8: "UINT8",
    DType.UINT16: "UINT16",
    DType.UINT32: "UINT32",
    DType.UINT64: "UINT64",
    DType.INT8: "INT8",
    DType.INT16: "INT16",
    DType.INT32: "INT32",
    DType.INT64: "INT64",
    DType.FLOAT16: "FP16",
    DType.FLOAT32: "FP32",
    DType.FLOAT64: "FP64",
    DType.BFLOAT16: "BF16",
    DType.STRING: "BYTES",
}
_BY_NAME = {name: dtype for dtype, name in DATATYPES.items()}
_NUMPY = {dtype: np.dtype(dtype.value) for dtype in DType
          if dtype not in (DType.STRING, DType.BFLOAT16)}  # fmt: skip
_NAMES = {numpy: DATATYPES[dtype] for dtype, numpy in _NUMPY.items()}
_MOST_ELEMENTS = 2**59
"""Of the widest datatype, 63 bits of bytes."""
MAX_RANK = 32
"""NumPy has no arrays of more dimensions than 64, models hardly more than 8."""


def dtype_named(datatype: str) -> DType:
    """The DType of a protocol datatype; InputError names the known ones."""
    try:
        return _BY_NAME[datatype]
    except (KeyError, TypeError):
        raise InputError(
            f"datatype {datatype!r} is not known", hint=f"one of {', '.join(_BY_NAME)}"
        ) from None


def datatype_of(array: Array) -> str:
    """The protocol's name of an array's dtype."""
    return _NAMES.get(array.dtype) or DATATYPES[dtype_of(array)]


def checked_shape(name: str, shape: Any) -> tuple[int, ...]:
    """A shape as sent: whole numbers, none negative, and such as NumPy can address."""
    good = isinstance(shape, list | tuple) and len(shape) <= MAX_RANK
    if (
        not good
        or any(type(d) is not int or d < 0 for d in shape)
        or math.prod(d for d in shape if d) > _MOST_ELEMENTS  # NumPy, too, leaves zeros out
    ):
        raise InputError(
            f"input {name}: {str(shape)[:60]} is not a shape",
            hint=f"a list of at most {MAX_RANK} sizes, none negative",
        )
    return tuple(shape)


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """The array that raw bytes hold; it shares their memory where it can, and is read-only."""
    dtype = dtype_named(datatype)
    shape = checked_shape(name, shape)
    if dtype is DType.STRING:
        return _strings(name, shape, bytes(raw))
    size = math.prod(shape)
    if len(raw) != size * dtype.itemsize:
        raise InputError(
            f"input {name}: {datatype}{list(shape)} has {size * dtype.itemsize:,} bytes, "
            f"got {len(raw):,}"
        )
    if dtype is DType.BOOL:
        truth: Array = np.frombuffer(raw, np.uint8) != 0
        return truth.reshape(shape)
    # Bytes behind a JSON header start anywhere; kernels read aligned memory.
    array: Array = np.frombuffer(raw, numpy_dtype(dtype)).reshape(shape)
    return np.require(array, requirements="A")


def to_raw(array: Array) -> bytes:
    """The bytes of an array on the wire."""
    if array.dtype.kind in "USO":
        parts = (_encoded(item) for item in array.ravel().tolist())
        return b"".join(struct.pack("<I", len(part)) + part for part in parts)
    return array.tobytes()


def from_values(name: str, datatype: str, shape: Sequence[int], values: Any) -> Array:
    """The array that JSON numbers or texts give, flat or nested; nothing is rounded or cut."""
    dtype = dtype_named(datatype)
    shape = checked_shape(name, shape)
    flat = _flat(name, values)
    if flat.size != math.prod(shape):
        raise InputError(
            f"input {name}: shape {list(shape)} has {math.prod(shape):,} elements, "
            f"data has {flat.size:,}"
        )
    return (_cast(name, dtype, flat) if flat.size else np.empty(0, numpy_dtype(dtype))).reshape(
        shape
    )


def to_values(array: Array) -> Any:
    """A flat list for JSON, or an array that orjson writes by itself, and faster.

    NaN and infinity, which JSON lacks, are written as null.
    """
    if array.dtype.kind in "USO":
        return [_text(item) for item in array.ravel().tolist()]
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32).ravel()
    return np.ascontiguousarray(array).ravel()


def _flat(name: str, values: Any) -> Array:
    try:
        array = np.asarray(values if isinstance(values, list) else [values])
    except (ValueError, OverflowError):
        raise InputError(
            f"input {name}: data is neither flat nor nested evenly", hint="row-major order"
        ) from None
    return array.ravel()


_ALLOWED = {"b": "b", "i": "iu", "u": "iu", "f": "iuf", "V": "iuf", "O": "U"}


def _cast(name: str, dtype: DType, flat: Array) -> Array:
    target = numpy_dtype(dtype)
    allowed = _ALLOWED[target.kind]
    if flat.dtype.kind not in allowed:
        raise InputError(
            f"input {name}: data holds what is no {DATATYPES[dtype]} "
            f"(NumPy reads it as {flat.dtype.name})"
        )
    if target.kind in "iu":
        limits = np.iinfo(target)
        if int(flat.min()) < limits.min or int(flat.max()) > limits.max:
            raise InputError(
                f"input {name}: data holds values outside {DATATYPES[dtype]}, "
                f"{limits.min} to {limits.max}"
            )
    with np.errstate(over="ignore"):
        cast = flat.astype(target)
    if dtype.is_float and not np.isfinite(cast).all():
        raise InputError(f"input {name}: data holds values too large for {DATATYPES[dtype]}")
    return cast


def _strings(name: str, shape: tuple[int, ...], raw: bytes) -> Array:
    items: list[str | bytes] = []
    at, wanted = 0, math.prod(shape)
    while at < len(raw) and len(items) <= wanted:
        (length,) = struct.unpack_from("<I", raw, at) if at + 4 <= len(raw) else (len(raw),)
        end = at + 4 + length
        if end > len(raw):
            raise InputError(f"input {name}: an element of BYTES ends behind the data")
        items.append(_text(raw[at + 4 : end]))
        at = end
    if len(items) != wanted:
        raise InputError(
            f"input {name}: shape {list(shape)} has {wanted:,} elements, the data "
            f"{'more' if len(items) > wanted else len(items)}"
        )
    array = np.empty(len(items), object)
    array[:] = items
    return array.reshape(shape)


def _text(item: Any) -> str:
    if isinstance(item, bytes):
        try:
            return item.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError("an element of BYTES is not UTF-8 text, which models take") from None
    return str(item)


def _encoded(item: Any) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode("utf-8")
