"""Tensors of an ONNX file: every size is checked against the bytes before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from onnx import TensorProto

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.ir import Array, numpy_dtype
from rekindle.graph.ops._attributes import ONNX_DTYPES

_MAX_DIM = 2**62
_MAX_RANK = 32
_HALF_BYTES = (TensorProto.INT4, TensorProto.UINT4)
"""Element types of constants that are read as the next larger ones."""


def text(value: str | bytes, what: str) -> str:
    """A name from the file; ModelError where it is not UTF-8 (protobuf then hands out bytes)."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise ModelError(f"{what} is not valid UTF-8: {value[:40]!r}") from None
    return value


def dtype_of_element(element: int, what: str) -> DType:
    """DType of an ONNX element type; ModelError for those without one (complex, float8, int4)."""
    if element in ONNX_DTYPES:
        return ONNX_DTYPES[element]
    try:
        name = TensorProto.DataType.Name(element)
    except ValueError:
        name = f"number {element}"
    raise ModelError(
        f"{what} has element type {name}, which is not supported",
        hint=f"supported: {', '.join(str(d) for d in ONNX_DTYPES.values())}",
    )


def to_array(tensor: TensorProto, folder: Path | None) -> Array:
    """The tensor's values. `folder` is where external data may lie (None: nowhere).

    ModelError: unsupported element type, negative or absurd dimensions, or a number of bytes or
    elements that does not fit the dimensions.
    """
    what = f"tensor {text(tensor.name, 'a tensor name')!r}"
    shape = tuple(tensor.dims)
    if tensor.data_type in _HALF_BYTES:
        return _half_bytes(tensor, shape, folder, what)
    dtype = dtype_of_element(tensor.data_type, what)
    _check_shape(tensor, shape, what)
    if dtype is DType.STRING:
        return _strings(tensor, shape, what)
    if tensor.data_location == TensorProto.EXTERNAL:
        flat = _external(tensor, dtype, shape, folder, what)
    elif tensor.HasField("raw_data"):
        flat = _raw(tensor, dtype, shape, what)
    else:
        flat = _typed(tensor, dtype, shape, what)
    return _reshape(flat, shape, what)


def _half_bytes(
    tensor: TensorProto, shape: tuple[int, ...], folder: Path | None, what: str
) -> Array:
    """Numbers of four bits, two in a byte, the first in its low half; as int8 or uint8."""
    whole = TensorProto()
    whole.CopyFrom(tensor)
    _check_shape(tensor, shape, what)
    count = math.prod(shape)
    whole.data_type, whole.dims[:] = TensorProto.UINT8, [-(-count // 2)]
    pairs = to_array(whole, folder)
    flat = np.stack([pairs & 15, pairs >> 4], axis=1).reshape(-1)[:count]
    if tensor.data_type == TensorProto.INT4:
        flat = ((flat ^ 8).astype(np.int8) - np.int8(8)).astype(np.int8)
    return _reshape(flat, shape, what)


def _check_shape(tensor: TensorProto, shape: tuple[int, ...], what: str) -> None:
    if len(shape) > _MAX_RANK or any(not 0 <= d <= _MAX_DIM for d in shape):
        raise ModelError(f"{what} has impossible dimensions {list(shape[:8])}")
    if tensor.HasField("segment"):
        raise ModelError(f"{what} is stored in segments, which are not supported")


def _reshape(flat: Array, shape: tuple[int, ...], what: str) -> Array:
    try:
        return flat.reshape(shape)
    except ValueError:  # an empty tensor whose other dimensions overflow
        raise ModelError(f"{what} has impossible dimensions {list(shape)}") from None


def _expect(count: int, shape: tuple[int, ...], what: str) -> None:
    if count != math.prod(shape):
        raise ModelError(
            f"{what} has dimensions {list(shape)} = {math.prod(shape)} elements, "
            f"but {count} in the file"
        )


def _raw(tensor: TensorProto, dtype: DType, shape: tuple[int, ...], what: str) -> Array:
    raw = tensor.raw_data
    needed = math.prod(shape) * dtype.itemsize
    if len(raw) != needed:
        raise ModelError(
            f"{what} of {dtype}{list(shape)} needs {needed} bytes, but has {len(raw)} in the file"
        )
    return _from_buffer(raw, dtype)


def _from_buffer(raw: bytes, dtype: DType) -> Array:
    if dtype is DType.BOOL:  # any byte but 0 is true; NumPy would keep the odd byte
        return np.frombuffer(raw, dtype=np.uint8).astype(np.bool_)
    return np.frombuffer(raw, dtype=numpy_dtype(dtype))


def _strings(tensor: TensorProto, shape: tuple[int, ...], what: str) -> Array:
    _expect(len(tensor.string_data), shape, what)
    strings = [text(s, f"a string of {what}") for s in tensor.string_data]
    return _reshape(np.array(strings, dtype=object), shape, what)


def _typed(tensor: TensorProto, dtype: DType, shape: tuple[int, ...], what: str) -> Array:
    """Values kept in the message's own lists, as the ONNX text says which for each type."""
    if dtype in (DType.FLOAT16, DType.BFLOAT16):
        _expect(len(tensor.int32_data), shape, what)
        bits = np.array(tensor.int32_data, dtype=np.int32).astype(np.uint16)
        return bits.view(numpy_dtype(dtype))
    lists: dict[DType, Sequence[float]] = {
        DType.FLOAT32: tensor.float_data,
        DType.FLOAT64: tensor.double_data,
        DType.INT64: tensor.int64_data,
        DType.UINT32: tensor.uint64_data,
        DType.UINT64: tensor.uint64_data,
    }
    values = lists.get(dtype, tensor.int32_data)
    _expect(len(values), shape, what)
    wide = np.uint64 if dtype in (DType.UINT32, DType.UINT64) else None
    return np.array(values, dtype=wide).astype(numpy_dtype(dtype))


def _external(
    tensor: TensorProto, dtype: DType, shape: tuple[int, ...], folder: Path | None, what: str
) -> Array:
    """Read from a file beside the model: never outside its folder, never past the file's end."""
    entries = {text(e.key, what): text(e.value, what) for e in tensor.external_data}
    path = _external_path(entries.get("location", ""), folder, what)
    needed = math.prod(shape) * dtype.itemsize
    offset = _count(entries.get("offset", "0"), "offset", what)
    length = _count(entries.get("length", str(needed)), "length", what)
    if length != needed:
        raise ModelError(
            f"{what} of {dtype}{list(shape)} needs {needed} bytes, but says length {length}"
        )
    try:
        size = path.stat().st_size
        if offset + length > size:
            raise ModelError(
                f"{what} wants bytes {offset} to {offset + length} of {path.name}, "
                f"which has {size}",
                hint="the external data file is truncated or belongs to another model",
            )
        with path.open("rb") as file:
            file.seek(offset)
            raw = file.read(length)
    except OSError as error:
        raise ModelError(
            f"cannot read external data of {what}: {path.name}: {error.strerror}"
        ) from error
    if len(raw) != length:
        raise ModelError(f"{path.name} ended while {what} was read")
    return _from_buffer(raw, dtype)


def _external_path(location: str, folder: Path | None, what: str) -> Path:
    if folder is None:
        raise ModelError(
            f"{what} is kept in an external file, but the model came without a folder",
            hint="load the model from its file, not from bytes",
        )
    pure = (PurePosixPath(location), PureWindowsPath(location))
    outside = any(p.is_absolute() or p.drive or p.root or ".." in p.parts for p in pure)
    home = folder.resolve()
    try:
        path = (home / location).resolve()
        if outside or not location or not path.is_relative_to(home):
            raise ModelError(
                f"{what} keeps its data in {location!r}, which is outside the model's folder",
                hint="external data must lie in the folder of the model file",
            )
        if not path.is_file():
            raise ModelError(
                f"{what} keeps its data in {location!r}, which is not a file in {home}"
            )
    except (OSError, ValueError, RuntimeError) as error:  # a NUL byte, or a loop of links
        raise ModelError(
            f"{what} keeps its data in {location!r}, an impossible file name"
        ) from error
    return path


def _count(digits: str, key: str, what: str) -> int:
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
        raise ModelError(f"{what} has {key} {digits[:40]!r}; expected a whole number of bytes")
    return int(digits)
