"""The words every room speaks: dtypes, tensor specifications, layouts, and the Target.

Plain data: importing this module loads neither NumPy nor any framework.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Dim = int | str
"""One dimension: a size, or the name of a dynamic one (`"N"`)."""

Shape = tuple[Dim, ...]


class DType(enum.Enum):
    """Element types, named as NumPy names them (`bfloat16` as ml_dtypes does)."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT64 = "float64"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    BOOL = "bool"
    STRING = "str"

    @property
    def itemsize(self) -> int:
        """Bytes of one element; strings have none and raise ValueError."""
        return _ITEMSIZE[self]

    @property
    def is_float(self) -> bool:
        return self in (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.FLOAT64)

    def __str__(self) -> str:
        return self.value


_ITEMSIZE = {
    DType.FLOAT32: 4,
    DType.FLOAT16: 2,
    DType.BFLOAT16: 2,
    DType.FLOAT64: 8,
    DType.INT8: 1,
    DType.UINT8: 1,
    DType.INT16: 2,
    DType.UINT16: 2,
    DType.INT32: 4,
    DType.UINT32: 4,
    DType.INT64: 8,
    DType.UINT64: 8,
    DType.BOOL: 1,
    DType.STRING: 0,
}


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of a model's input or output; dynamic dimensions are names."""

    name: str
    dtype: DType
    shape: Shape

    @property
    def is_static(self) -> bool:
        return all(isinstance(d, int) for d in self.shape)

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Layout:
    """How a tensor lies in memory.

    `block == 0` is row-major. `block == c` is channel-blocked: a tensor (N, C, *spatial) lies as
    (N, ceil(C / c), *spatial, c), channels past C being zero. c is 16 on CPUs, 4 on GPUs
    (NC/4HW4), a property of the Target.
    """

    block: int = 0

    def physical_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The row-major shape of the memory that holds a tensor of logical `shape`."""
        if not self.block:
            return tuple(shape)
        n, c, *spatial = shape
        return (n, -(-c // self.block), *spatial, self.block)

    def nbytes(self, shape: Sequence[int], dtype: DType) -> int:
        return math.prod(self.physical_shape(shape)) * dtype.itemsize

    def __str__(self) -> str:
        return f"blocked{self.block}" if self.block else "row-major"


ROW_MAJOR = Layout()

Family = Literal["cpu", "gcn", "generic"]


@dataclass(frozen=True)
class Target:
    """What the planner must know of a device. Plain data: needs no OpenCL to exist.

    Made by `device` from a real OpenCL device, or from a row of the architecture table, so that
    a plan for an RX 580 can be made on any machine.
    """

    name: str
    family: Family
    compute_units: int
    wavefront: int
    """Lanes that run together: 64 on GCN; the preferred float vector width on a CPU."""
    lds_bytes: int
    """Local memory per work-group."""
    global_bytes: int
    max_alloc_bytes: int
    alignment_bytes: int
    """Alignment of sub-buffers (OpenCL reports it in bits; this is bytes)."""
    max_work_group: int = 256
    fp16: bool = False
    fp64: bool = False
    platform: str = ""
    driver: str = ""
    disabled_kernels: tuple[str, ...] = ()
    """Kernels that must not be chosen: wrong or hanging here, or switched off by the user."""
    broken_kernels: tuple[str, ...] = ()
    """Kernels that the driver did not compile, as a session found out: not chosen either."""

    @property
    def channel_block(self) -> int:
        """Channels per block in the blocked layout: 16 (one cache line) on a CPU, else 4."""
        return 16 if self.family == "cpu" else 4
