"""Packed constants on one device, and in host memory where they are streamed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Set
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyopencl as cl

from rekindle.engine.allocation import allocate
from rekindle.engine.compiler import compiler_for
from rekindle.engine.kernels import Packed
from rekindle.engine.streaming import device_bytes
from rekindle.graph.ir import Array

_WORTH_THREADS = 4 << 20
"""Bytes below which threads cost more than they bring."""
_MOST_THREADS = 4
"""More would wait for memory, and each holds a packed copy of what it sends."""


class Weights:
    """Shared by the plans of one session (one per shape): each constant is packed once."""

    def __init__(self, device: cl.Device) -> None:
        self.context = compiler_for(device).context
        self._buffers: dict[str, cl.Buffer] = {}
        self._host: dict[str, Array] = {}

    def prepare(self, constants: Iterable[Packed]) -> None:
        """Pack and send those that are not there, several at a time: NumPy lets others run."""
        missing = [c for c in constants if c.key not in self._buffers]
        if sum(c.nbytes for c in missing) < _WORTH_THREADS:
            return
        missing.sort(key=lambda c: -c.nbytes)  # the largest first: none is left over at the end
        with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
            for constant, buffer in zip(missing, pool.map(self._sent, missing), strict=True):
                self._buffers[constant.key] = buffer

    def buffer(self, constant: Packed) -> cl.Buffer:
        """The constant on the device, to stay there."""
        if constant.key not in self._buffers:
            self._buffers[constant.key] = self._sent(constant)
        return self._buffers[constant.key]

    def _sent(self, constant: Packed) -> cl.Buffer:
        data = self._host.get(constant.key)
        if data is None:
            data = _pack(constant)
        data = data if data.nbytes else np.zeros(1, np.uint8)
        return allocate(self.context, device_bytes(constant), f"the weights {constant.key}", data)

    def host(self, constant: Packed) -> Array:
        """The constant in host memory, to be sent from there."""
        if constant.key not in self._host:
            self._host[constant.key] = _pack(constant)
        return self._host[constant.key]

    def keep(self, resident: Set[str], streamed: Set[str]) -> None:
        """Let go of every other constant."""
        for key in self._buffers.keys() - resident:
            self._buffers.pop(key).release()
        for key in self._host.keys() - streamed:
            del self._host[key]

    @property
    def nbytes(self) -> int:
        """Device memory of the constants that are there now."""
        return sum(b.size for b in self._buffers.values())

    def release(self) -> None:
        self.keep(frozenset(), frozenset())


def _pack(constant: Packed) -> Array:
    array = np.ascontiguousarray(constant.pack())
    assert array.nbytes == constant.nbytes, (constant.key, array.nbytes, constant.nbytes)
    return array
