"""Device memory, with errors that say how much was asked for, and what for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyopencl as cl

from rekindle._errors import DeviceError, MemoryLimitError
from rekindle.graph.ir import Array

ALIGNMENT = 64
"""Bytes: a vector of 16 floats, a line of the cache."""
_OUT_OF_MEMORY = (
    "MEM_OBJECT_ALLOCATION_FAILURE",
    "OUT_OF_RESOURCES",
    "OUT_OF_HOST_MEMORY",
    "INVALID_BUFFER_SIZE",
)


def allocate(
    context: cl.Context, nbytes: int, purpose: str, data: Array | None = None
) -> cl.Buffer:
    """A buffer of `nbytes`, read-only and filled where there is `data`.

    MemoryLimitError where the device has no room for it, DeviceError for any other refusal.
    """
    flags = cl.mem_flags.READ_WRITE
    if data is not None:
        flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
    try:
        return cl.Buffer(context, flags, 0 if data is not None else nbytes, hostbuf=data)
    except cl.Error as error:
        raise refusal(error, context.devices[0], f"{nbytes:,} bytes for {purpose}") from error


def aligned_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array with undefined values at a multiple of 64 bytes, as kernels' vectors need it."""
    nbytes = math.prod(shape) * dtype.itemsize
    room = np.empty(nbytes + ALIGNMENT, np.uint8)
    first = -room.ctypes.data % ALIGNMENT
    return room[first : first + nbytes].view(dtype).reshape(shape)


def refusal(error: cl.Error, device: cl.Device, asked: str) -> DeviceError | MemoryLimitError:
    """What an OpenCL error means: no memory for what was `asked`, or a command refused."""
    name = device.name.strip()
    if any(code in str(error) for code in _OUT_OF_MEMORY):
        return MemoryLimitError(
            f"{name} could not give {asked}; it reports {device.global_mem_size:,} bytes in all, "
            f"{device.max_mem_alloc_size:,} for one buffer: {error}",
            hint="use a smaller batch or model, a memory limit, or close other programs that "
            "use the card",
        )
    return DeviceError(
        f"{name} ({device.driver_version}) refused a command: {error}",
        hint="run `rekindle doctor`",
    )
