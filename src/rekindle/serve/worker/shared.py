"""Tensors in memory that two processes share.

A region is a file without a name: whoever holds its descriptor can map it, and it is gone when
the last holder is, however that ended. It grows by the side that writes it; the reader is told the
size and maps again.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rekindle._types import DType
from rekindle.graph.ir import Array, dtype_of, numpy_dtype
from rekindle.serve.tensors import from_raw, to_raw

ALIGNMENT = 64
"""A cache line, and what vector instructions like."""
_FIRST_BYTES = 2**20

Place = tuple[str, str, list[int], int, int]
"""Where a tensor lies: its name, dtype, shape, offset and bytes."""


class Region:
    """A growing piece of shared memory."""

    def __init__(self, descriptor: int | None = None) -> None:
        """A new region, or the one behind a descriptor that was handed over."""
        if descriptor is None:
            descriptor = _unnamed_file()
            os.ftruncate(descriptor, _FIRST_BYTES)
        self.descriptor = descriptor
        self.map(os.fstat(descriptor).st_size)

    @property
    def size(self) -> int:
        return len(self._memory)

    def map(self, size: int) -> None:
        """See the region in its present size; arrays made before keep the old mapping alive."""
        self._memory = mmap.mmap(self.descriptor, size)

    def reserve(self, size: int) -> None:
        """Make the region at least so large; only the writing side may."""
        if size > self.size:
            size = max(size, self.size * 3 // 2)
            os.ftruncate(self.descriptor, size)
            self.map(size)

    def array(self, place: Place) -> Array:
        """The tensor at a place: a view that lives as long as the mapping, or a copy of strings."""
        name, dtype, shape, offset, nbytes = place
        if DType(dtype) is DType.STRING:
            return from_raw(name, "BYTES", shape, self._memory[offset : offset + nbytes])
        plain = numpy_dtype(DType(dtype))
        view: Array = np.frombuffer(self._memory, plain, math.prod(shape), offset)
        return view.reshape(shape)

    def write(self, tensors: Mapping[str, Array], start: int = 0) -> list[Place]:
        """Copy tensors in, one behind the other; where each lies."""
        raw = {n: to_raw(a) for n, a in tensors.items() if a.dtype.kind in "USO"}
        sizes = {n: len(raw[n]) if n in raw else a.nbytes for n, a in tensors.items()}
        places: list[Place] = []
        for name, array in tensors.items():
            places.append((name, str(dtype_of(array)), list(array.shape), start, sizes[name]))
            start += aligned(sizes[name])
        self.reserve(start)
        for place, (name, array) in zip(places, tensors.items(), strict=True):
            if name in raw:
                self._memory[place[3] : place[3] + place[4]] = raw[name]
            elif place[4]:
                np.copyto(self.array(place), array)
        return places

    def gather(self, parts: Sequence[Mapping[str, Array]], rows: int, have: int) -> list[Place]:
        """Copy parts in one below the other, with zeros from `have` to `rows` rows."""
        if len(parts) == 1 and rows <= have:
            return self.write(parts[0])
        if any(a.dtype.kind in "USO" for a in parts[0].values()):
            joined = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
            return self.write(joined)
        places: list[Place] = []
        at = 0
        for name, first in parts[0].items():
            shape = [max(rows, have), *first.shape[1:]]
            size = math.prod(shape) * first.itemsize
            places.append((name, str(dtype_of(first)), shape, at, size))
            at += aligned(size)
        self.reserve(at)
        for place in places:
            whole, row = self.array(place), 0
            for part in parts:
                array = part[place[0]]
                whole[row : row + len(array)] = array
                row += len(array)
            whole[row:] = 0
        return places

    def counter(self) -> Any:
        """The first eight bytes as a number: a heartbeat, written by one side."""
        return np.frombuffer(self._memory, np.int64, 1)

    def close(self) -> None:
        """Give the descriptor back; the memory goes with the last array that views it."""
        del self._memory
        os.close(self.descriptor)


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def copied(region: Region, places: Iterable[Place]) -> dict[str, Array]:
    """Tensors of a region that will be written again: copies."""
    return {place[0]: region.array(place).copy() for place in places}


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("rekindle", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
