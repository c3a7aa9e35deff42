"""Executors of one model, one for each set of input shapes, within one limit of memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence

import pyopencl as cl

from rekindle._errors import MemoryLimitError
from rekindle._log import debug
from rekindle.engine.executor import Executor
from rekindle.engine.plan import Plan
from rekindle.engine.streaming import Residency, device_bytes, residency
from rekindle.engine.trace import Trace
from rekindle.engine.weights import Weights

_KEPT = 8


class Executors:
    """The last few executors (LRU). Not thread-safe: who owns it takes turns (`Lanes`).

    They share their weights; all together, weights, activations and regions for streamed weights,
    they stay within `limit_bytes`: the least recently used ones go first. With a `trace`, all of
    them are timed.
    """

    def __init__(self, device: cl.Device, limit_bytes: int, trace: Trace | None = None) -> None:
        self._trace = trace
        self._device = device
        self._limit_bytes = limit_bytes
        self._weights = Weights(device)
        self._executors: OrderedDict[Hashable, Executor] = OrderedDict()

    @property
    def device_bytes(self) -> int:
        """Device memory held now."""
        return self._weights.nbytes + sum(e.device_bytes for e in self._executors.values())

    def get(self, key: Hashable) -> Executor | None:
        """The executor for these shapes, which is then the most recently used one."""
        if key in self._executors:
            self._executors.move_to_end(key)
        return self._executors.get(key)

    def add(self, key: Hashable, plan: Plan, beside: Sequence[Hashable] = ()) -> Executor:
        """An executor for `plan`; others give way to it, but for those named in `beside`.

        MemoryLimitError before any of that where the plan does not fit by itself or beside those,
        or after it where the device gives less memory than it has; the others then still work or
        come back.
        """
        kept = residency(plan, self._limit_bytes)
        for name in beside:
            self._executors.move_to_end(name)
        others = list(self._executors.values())
        while len(others) > len(beside) and (
            len(others) >= _KEPT or _together(others, plan, kept) > self._limit_bytes
        ):
            del others[0]
        if beside and (needed := _together(others, plan, kept)) > self._limit_bytes:
            raise MemoryLimitError(
                f"{len(beside) + 1} runs at a time need {needed:,} bytes on the device; the limit "
                f"is {self._limit_bytes:,}",
                hint=f"stream with depth={len(beside)}",
            )
        self._evict_to(len(others), kept)
        try:
            executor = self._open(plan, kept)
        except MemoryLimitError as error:
            if len(self._executors) <= len(beside):
                raise
            debug(1, "%s: letting go of every other plan", error)
            self._evict_to(len(beside), kept)
            executor = self._open(plan, kept)
        self._executors[key] = executor
        return executor

    def close(self) -> None:
        while self._executors:
            self._executors.popitem()[1].release()
        self._weights.release()

    def _open(self, plan: Plan, kept: Residency) -> Executor:
        try:
            return Executor(plan, self._device, self._weights, self._trace, kept)
        except BaseException:
            self._trim([])
            raise

    def _evict_to(self, count: int, coming: Residency) -> None:
        if count < len(self._executors):
            while count < len(self._executors):
                self._executors.popitem(last=False)[1].release()
            self._trim([coming])

    def _trim(self, coming: Iterable[Residency]) -> None:
        """Let go of weights that nothing uses."""
        used = [*(e.residency for e in self._executors.values()), *coming]
        resident = frozenset[str]().union(*(r.resident for r in used))
        streamed = {key for r in used for stage in r.stages for key in stage.offsets}
        self._weights.keep(resident, streamed)


def _together(others: Iterable[Executor], plan: Plan, kept: Residency) -> int:
    """Bytes on the device with a new executor beside `others`; shared weights count once."""
    total = plan.memory.arena_bytes + kept.staging_bytes
    weights = {key: device_bytes(plan.constants[key]) for key in kept.resident}
    for other in others:
        total += other.device_bytes
        constants = other.plan.constants
        weights |= {key: device_bytes(constants[key]) for key in other.residency.resident}
    return total + sum(weights.values())
