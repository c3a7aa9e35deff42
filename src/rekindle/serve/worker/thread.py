"""A worker in a thread of this process: light, but its memory and its crashes are the server's."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from rekindle._errors import BusyError
from rekindle.graph.ir import Array
from rekindle.serve import heap
from rekindle.serve.worker.job import Job, Opened, Ran, rows_of
from rekindle.serve.worker.opening import OpenModel, open_model


class ThreadWorker:
    """A session and the one thread that uses it."""

    def __init__(self, name: str, run_timeout_s: float = math.inf) -> None:
        """A run that takes longer than `run_timeout_s` counts as hung: nobody can end a thread,
        but readiness can tell.
        """
        self._run_timeout_s = run_timeout_s
        self._began: float | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"rekindle-{name}")
        self._model: OpenModel | None = None

    @property
    def alive(self) -> bool:
        if self._model is None:
            return False
        began = self._began
        return began is None or time.monotonic() - began < self._run_timeout_s

    async def open(self, job: Job) -> Opened:
        self._model = await asyncio.get_running_loop().run_in_executor(
            self._thread, open_model, job
        )
        return self._model.opened

    async def run(self, parts: Sequence[Mapping[str, Array]], rows: int) -> Ran:
        if self._model is None:
            raise BusyError("the model is closed", hint="try again")
        self._began = time.monotonic()
        running = asyncio.get_running_loop().run_in_executor(
            self._thread, _run, self._model, parts, rows
        )
        try:
            return await running
        finally:
            self._began = None

    async def close(self) -> None:
        model, self._model = self._model, None
        if model is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, _close, model)
        self._thread.shutdown(wait=False)


def _close(model: OpenModel) -> None:
    model.session.close()
    heap.give_back()


def _run(model: OpenModel, parts: Sequence[Mapping[str, Array]], rows: int) -> Ran:
    start = time.perf_counter()
    feeds = joined(parts, rows)
    ready = time.perf_counter()
    outputs = model.session.run(feeds)
    done = time.perf_counter()
    return Ran(outputs, ready - start, done - ready, 0.0, model.session.device_bytes)


def joined(parts: Sequence[Mapping[str, Array]], rows: int) -> Mapping[str, Array]:
    """The parts one below the other, zeros to `rows` rows; a single full part as it is."""
    have = sum(rows_of(part) for part in parts)
    if len(parts) == 1 and have >= rows:
        return parts[0]
    feeds = {}
    for name, first in parts[0].items():
        arrays = [part[name] for part in parts]
        if rows > have:
            arrays.append(np.zeros((rows - have, *first.shape[1:]), first.dtype))
        feeds[name] = np.concatenate(arrays)
    return feeds
