"""One loaded model: its worker, its batcher, and what its inputs must look like."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from rekindle._errors import BusyError, InputError, RekindleError
from rekindle._types import Shape
from rekindle.graph.ir import Array, dtype_of, numpy_dtype
from rekindle.serve.batching.batcher import Answer, Batch, Batcher, Part
from rekindle.serve.batching.latency import LatencyModel
from rekindle.serve.batching.scheduler import Scheduler
from rekindle.serve.messages import InferRequest
from rekindle.serve.worker.job import Job, Opened, Ran, Worker
from rekindle.serve.worker.thread import ThreadWorker

if TYPE_CHECKING:
    from rekindle.serve.events import Listener
    from rekindle.serve.repository import Entry
    from rekindle.serve.settings import Settings

_REVIVALS = 5
"""Attempts to start a lost worker again, each after twice the wait, before requests fail."""


class Instance:
    """A model version that is loaded, or being loaded."""

    def __init__(self, entry: Entry, settings: Settings, listener: Listener) -> None:
        self.entry = entry
        self._settings = settings
        self._listener = listener
        self._worker = self._new_worker()
        self._opened: Opened | None = None
        self._batcher: Batcher | None = None
        self.resized: Callable[[int], None] = lambda nbytes: None
        """Called with the bytes it takes when a run has changed them (a new shape, a new plan)."""
        self._nbytes = 0
        self.failure: RekindleError | None = None
        """Why the worker could not be started again; None while it runs."""

    @property
    def key(self) -> str:
        return f"{self.entry.name} version {self.entry.version}"

    @property
    def opened(self) -> Opened:
        assert self._opened is not None
        return self._opened

    @property
    def healthy(self) -> bool:
        return self._worker.alive

    @property
    def pid(self) -> int | None:
        """The worker's process, where it has one of its own and while that is there."""
        pid: int | None = getattr(self._worker, "pid", None)
        return pid

    @property
    def max_batch(self) -> int:
        """Rows of one run; 0 where requests are never put together, as Triton says it."""
        return self._scheduler.latency.max_rows if self.opened.batchable else 0

    @property
    def window_s(self) -> float:
        own = self.entry.config.window_s
        return self._settings.window_s if own is None else own

    @property
    def queued(self) -> int:
        return len(self._scheduler)

    @property
    def full(self) -> bool:
        """Whether another request would be refused."""
        return self.queued >= self._settings.max_queue

    async def open(self) -> Opened:
        """Start the worker and open the model; see `Worker.open` for what it raises."""
        self._opened = opened = await self._open_worker()
        self._nbytes = opened.nbytes
        self._expected = [(spec, numpy_dtype(spec.dtype)) for spec in opened.inputs]
        largest = max(opened.sizes, default=self._most)
        latency = LatencyModel(largest if opened.batchable else 1, opened.latencies)
        self._scheduler: Scheduler[Part] = Scheduler(
            latency, self.window_s if opened.batchable else 0.0, self._settings.max_queue
        )
        self._batcher = Batcher(
            self,
            self._scheduler,
            batchable=opened.batchable,
            sizes=opened.sizes,
            listen=self._heard,
        )
        return opened

    async def infer(self, request: InferRequest, deadline: float) -> Answer:
        """Run one request in some batch. InputError says which input is wrong, and how."""
        assert self._batcher is not None
        rows, shape = self._examine(request.inputs)
        return await self._batcher.submit(
            request.inputs, rows, shape, priority=request.priority, deadline=deadline
        )

    async def run(self, parts: Sequence[Mapping[str, Array]], rows: int) -> Ran:
        return await self._worker.run(parts, rows)

    async def revive(self) -> None:
        """Start a lost worker again. Called by the batcher, which runs nothing meanwhile."""
        self._listener.worker_lost(self.entry.name, self.entry.version, "died or hung")
        wait_s = 0.1
        for attempt in range(_REVIVALS):
            await self._worker.close()
            self._worker = self._new_worker()
            try:
                await self._open_worker()
            except RekindleError as error:
                self.failure = error
            else:
                self.failure = None
                return
            if attempt + 1 < _REVIVALS:
                await asyncio.sleep(wait_s)
                wait_s *= 2
        assert self.failure is not None
        raise self.failure

    async def close(self) -> None:
        """Fail what waits, and give the memory back."""
        if self._batcher is not None:
            self._batcher.abort(BusyError("the model was unloaded", hint="load it again"))
        await self._worker.close()

    @property
    def _most(self) -> int:
        return self.entry.config.max_batch or self._settings.max_batch

    async def _open_worker(self) -> Opened:
        timeout_s = self._settings.load_timeout_s
        try:
            return await asyncio.wait_for(self._worker.open(self._job()), timeout_s)
        except TimeoutError:
            await self._worker.close()
            raise BusyError(f"{self.key} was not loaded within {timeout_s:g} s") from None

    def _job(self) -> Job:
        settings, card = self._settings, self.entry.card
        return Job(
            path=str(self.entry.path),
            provider=settings.provider,
            device=settings.device,
            precision=self.entry.precision or settings.precision,
            threads=settings.threads,
            max_batch=self._most,
            inputs=tuple(t.spec for t in card.inputs) if card else (),
            outputs=tuple(t.spec for t in card.outputs) if card else (),
        )

    def _new_worker(self) -> Worker:
        settings = self._settings
        if settings.isolation == "thread":
            return ThreadWorker(self.entry.name, settings.run_timeout_s)
        from rekindle.serve.worker.process import ProcessWorker

        return ProcessWorker(
            hang_s=settings.hang_s, run_timeout_s=settings.run_timeout_s, lost=self._lost_idle
        )

    def _lost_idle(self) -> None:
        if self._batcher is not None:
            self._batcher.worker_lost()

    def _heard(self, batch: Batch) -> None:
        if batch.nbytes is not None and batch.nbytes != self._nbytes:
            self._nbytes = batch.nbytes
            self.resized(batch.nbytes)
        self._listener.batch_ran(self.entry.name, self.entry.version, batch)

    def _examine(self, inputs: Mapping[str, Array]) -> tuple[int, Hashable]:
        """Rows and shape key; everything that would spoil a batch is refused here."""
        opened = self.opened
        rows, key = 1, []
        for k, (spec, dtype) in enumerate(self._expected):
            array = inputs.get(spec.name)
            if array is None:
                raise InputError(f"input {spec.name} is missing", hint=f"expected {spec}")
            if (array.dtype != dtype and dtype_of(array) is not spec.dtype) or not _fits(
                spec.shape, array.shape
            ):
                raise InputError(
                    f"input {spec.name}: expected {spec}, got "
                    f"{dtype_of(array)}[{', '.join(map(str, array.shape))}]"
                )
            if opened.batchable:
                if k and array.shape[0] != rows:
                    raise InputError(
                        f"input {spec.name} has {array.shape[0]} rows, the first input {rows}"
                    )
                rows = array.shape[0]
                key.append(array.shape[1:])
        if rows == 0:
            raise InputError("the inputs have no rows", hint="send one row or more")
        if len(inputs) > len(opened.inputs):
            known = [spec.name for spec in opened.inputs]
            raise InputError(
                f"unknown input {', '.join(sorted(inputs.keys() - set(known)))}",
                hint=f"the model's inputs are {', '.join(known) or 'none'}",
            )
        return rows, tuple(key)


def _fits(want: Shape, have: tuple[int, ...]) -> bool:
    if len(want) != len(have):
        return False
    for expected, given in zip(want, have, strict=True):  # a loop: this is on every request's way
        if expected != given and isinstance(expected, int):
            return False
    return True
