"""Streamed weights on their way: a second queue, two regions, and events in between.

While kernels read stage k in one region, stage k + 1 is copied into the other. The copy of a stage
waits for the last reader of the stage that had its region before; the first reader of a stage
waits for its copy. Nothing else waits: the host gives all commands of a run ahead of time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import pyopencl as cl

from rekindle.engine.allocation import allocate
from rekindle.engine.kernels import Packed
from rekindle.engine.streaming import REGIONS, Residency
from rekindle.engine.trace import Trace
from rekindle.engine.weights import Weights
from rekindle.graph.ir import Array

_MEASURABLE_BYTES = 1 << 20
"""A copy of fewer bytes says more of the call than of the bus."""


class Uploads:
    """The stages of one executor. Nothing is allocated where nothing is streamed."""

    def __init__(
        self,
        residency: Residency,
        constants: Mapping[str, Packed],
        device: cl.Device,
        weights: Weights,
        trace: Trace | None = None,
    ) -> None:
        self._stages = residency.stages
        self._trace = trace
        self._regions: list[cl.Buffer] = []
        self._buffers: list[dict[str, cl.Buffer]] = []
        self._arrays: list[dict[str, Array]] = []
        self._events: dict[int, cl.Event] = {}
        self._under_way: list[cl.Event] = []
        self.bandwidth_bytes_s: float | None = None
        """Measured with the first stage, from host memory to the device; None: too little."""
        if not self._stages:
            return
        timed = cl.command_queue_properties.PROFILING_ENABLE if trace else 0
        self._queue = cl.CommandQueue(weights.context, device, timed)
        try:
            for _ in range(REGIONS):
                region = allocate(
                    weights.context, residency.region_bytes, "a region for streamed weights"
                )
                self._regions.append(region)
            for stage in self._stages:
                region = self._regions[stage.region]
                arrays = {key: weights.host(constants[key]) for key in stage.offsets}
                self._arrays.append(arrays)
                self._buffers.append(
                    {
                        key: region.get_sub_region(offset, max(arrays[key].nbytes, 1))
                        for key, offset in stage.offsets.items()
                    }
                )
            self._measure()
        except BaseException:
            self.release()
            raise

    @property
    def nbytes(self) -> int:
        return sum(region.size for region in self._regions)

    def buffer(self, stage: int, key: str) -> cl.Buffer:
        """Where a constant lies while that stage is there."""
        return self._buffers[stage][key]

    def start(self) -> None:
        """Send the first stages; nothing of an earlier run may be under way."""
        for stage in range(min(REGIONS, len(self._stages))):
            self._send(stage, None)

    def arrived(self, stage: int) -> list[cl.Event]:
        """What the first reader of a stage must wait for."""
        return [self._events[stage]] if stage in self._events else []

    def freed(self, stage: int, event: cl.Event) -> None:
        """After `event` nothing reads that stage any more: send the one that takes its place."""
        if stage + REGIONS < len(self._stages):
            self._send(stage + REGIONS, event)

    def finish(self) -> None:
        """Wait for every copy, and let go of their events."""
        if self._stages:
            self._queue.finish()
        self._under_way.clear()
        self._events.clear()

    def release(self) -> None:
        for buffers in self._buffers:
            for buffer in buffers.values():
                buffer.release()
        for region in self._regions:
            region.release()
        self._buffers.clear()
        self._regions.clear()
        self._arrays.clear()

    def _send(self, stage: int, after: cl.Event | None) -> None:
        wait_for = [after] if after else None
        for key, buffer in self._buffers[stage].items():
            if not self._arrays[stage][key].nbytes:
                continue
            # The queue is in order: only the first copy has to wait. An event that is dropped
            # makes pyopencl wait for its copy, so all are kept until the run is over.
            event = cl.enqueue_copy(
                self._queue, buffer, self._arrays[stage][key], is_blocking=False, wait_for=wait_for
            )
            wait_for = None
            self._under_way.append(event)
            self._events[stage] = event
            if self._trace:
                self._trace.command("upload", key, event)
        self._queue.flush()

    def _measure(self) -> None:
        if self._stages[0].nbytes < _MEASURABLE_BYTES:
            return
        for _ in range(2):  # the first touches the memory
            start = time.perf_counter()
            self._send(0, None)
            self.finish()
            spent_s = time.perf_counter() - start
        self.bandwidth_bytes_s = self._stages[0].nbytes / spent_s
