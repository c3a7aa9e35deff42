"""Shapes and dtypes of the inputs that torch.jit.trace keeps in its archive.

The record is a pickle; it is read by an unpickler that knows five names and makes descriptions
instead of tensors. Anything else in it ends the reading.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rekindle._types import DType

_STORAGES = {
    "FloatStorage": DType.FLOAT32,
    "HalfStorage": DType.FLOAT16,
    "BFloat16Storage": DType.BFLOAT16,
    "DoubleStorage": DType.FLOAT64,
    "CharStorage": DType.INT8,
    "ByteStorage": DType.UINT8,
    "ShortStorage": DType.INT16,
    "IntStorage": DType.INT32,
    "LongStorage": DType.INT64,
    "BoolStorage": DType.BOOL,
}
Sample = tuple[DType, tuple[int, ...]]


def read(path: Path) -> tuple[Sample, ...] | None:
    """(dtype, shape) of each positional input of `forward`; None where the archive tells none."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = [n for n in archive.namelist() if n.endswith("/traced_inputs.pkl")]
            if not records:
                return None
            forward = _Describe(io.BytesIO(archive.read(records[0]))).load()["forward"]
    except (pickle.UnpicklingError, zipfile.BadZipFile, KeyError, TypeError, EOFError, ValueError):
        return None
    if not all(isinstance(s, tuple) and len(s) == 2 for s in forward):
        return None
    return tuple(forward)


class _Describe(pickle.Unpickler):
    """Makes (dtype, shape) of each tensor; refuses every name a trace does not write."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("torch.jit._pickle", "restore_type_tag"): lambda value, _tag: value,
            ("torch._utils", "_rebuild_tensor_v2"): _describe_tensor,
            ("collections", "OrderedDict"): OrderedDict,
        }
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a traced input")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        return pid


def _describe_tensor(storage: Any, _offset: int, size: Any, *_rest: Any) -> Sample:
    return storage[1], tuple(int(d) for d in size)
