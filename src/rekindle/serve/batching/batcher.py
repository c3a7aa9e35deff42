"""Drives a scheduler from the event loop: one run at a time, one timer, no polling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rekindle._errors import BusyError, DeadlineError, RekindleError
from rekindle.graph.ir import Array
from rekindle.serve.batching.scheduler import Scheduler, Ticket
from rekindle.serve.worker.job import Ran, WorkerLostError

Outputs = Mapping[str, Array]


class Runner(Protocol):
    """What runs batches: a loaded model."""

    async def run(self, parts: Sequence[Mapping[str, Array]], rows: int) -> Ran: ...

    async def revive(self) -> None:
        """After WorkerLostError: make `run` possible again; raises where that fails."""
        ...


@dataclass(slots=True)
class Part:
    """One request's share: its inputs, and where its outputs go."""

    inputs: Mapping[str, Array]
    answer: asyncio.Future[Answer]


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's outputs, and how its batch went."""

    outputs: Outputs
    queue_s: float
    batch: Batch


@dataclass(frozen=True, slots=True)
class Batch:
    """One run, for statistics."""

    rows: int
    """Rows of requests, without those that only fill up."""
    requests: int
    queue_s: tuple[float, ...]
    """How long each request waited."""
    input_s: float
    run_s: float
    output_s: float
    nbytes: int | None
    started: float = 0.0
    """`time.monotonic()` when it began."""

    @property
    def compute_s(self) -> float:
        return self.input_s + self.run_s + self.output_s


class Batcher:
    """Requests in, each one's own rows out."""

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler[Part],
        *,
        batchable: bool,
        sizes: Sequence[int] = (),
        listen: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._batchable = batchable
        self._sizes = sorted(sizes)
        self._listen = listen
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._busy: asyncio.Task[None] | None = None

    @property
    def scheduler(self) -> Scheduler[Part]:
        return self._scheduler

    async def submit(
        self,
        inputs: Mapping[str, Array],
        rows: int,
        shape: Hashable,
        *,
        priority: int,
        deadline: float | None,
    ) -> Answer:
        """Wait for a turn and run. Cancelled, the request leaves its queue.

        BusyError: the queue is full, or the worker was lost; DeadlineError; what the run raises.
        """
        part = Part(inputs, self._loop.create_future())
        ticket = Ticket(part, rows, shape, priority, time.monotonic(), deadline)
        self._scheduler.add(ticket)
        self._turn()
        try:
            return await part.answer
        except asyncio.CancelledError:
            self._scheduler.remove(ticket)
            raise

    def worker_lost(self) -> None:
        """The worker died while it had nothing to do: start it again before anybody needs it."""
        if self._busy is None:
            self._cancel_timer()
            self._start(self._revive())

    def abort(self, error: RekindleError) -> None:
        """Fail everything that waits."""
        self._cancel_timer()
        for ticket in self._scheduler.drain():
            _fail(ticket, error)

    def _turn(self) -> None:
        """Start the next batch if the model is free and one is due; else set the timer."""
        if self._busy is not None:
            return
        self._cancel_timer()
        now = time.monotonic()
        for ticket in self._scheduler.expire(now):
            _fail(ticket, DeadlineError("the deadline passed while the request waited"))
        batch = self._scheduler.take(now)
        if batch:
            self._start(self._execute(batch))
        elif (due := self._scheduler.wake()) is not None:
            # The loop's clock is the monotonic clock: one absolute deadline, set once.
            self._timer = self._loop.call_later(max(due - now, 0.0), self._turn)

    def _start(self, work: asyncio._CoroutineLike[None]) -> None:
        self._busy = self._loop.create_task(work)
        self._busy.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._busy = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self.abort(BusyError(f"the model cannot run: {error}", hint="try again later"))
        self._turn()

    async def _execute(self, batch: Sequence[Ticket[Part]]) -> None:
        started = time.monotonic()
        try:
            ran = await self._runner.run([t.item.inputs for t in batch], self._filled(batch))
        except WorkerLostError as error:
            for ticket in batch:
                _fail(ticket, error)
            await self._revive()
        except RekindleError as error:
            await self._alone(batch, error)
        except Exception as error:  # a bug, or an engine's own error: the caller must hear of it
            for ticket in batch:
                _fail(ticket, RekindleError(f"the run failed: {type(error).__name__}: {error}"))
        else:
            self._deliver(batch, ran, started)

    async def _alone(self, batch: Sequence[Ticket[Part]], error: RekindleError) -> None:
        """One request's data must not fail the others': run each by itself."""
        if len(batch) == 1:
            _fail(batch[0], error)
            return
        for ticket in batch:
            if not ticket.item.answer.done():
                await self._execute([ticket])

    async def _revive(self) -> None:
        try:
            await self._runner.revive()
        except RekindleError as error:
            self.abort(BusyError(f"the model cannot run: {error}", hint="try again later"))

    def _filled(self, batch: Sequence[Ticket[Part]]) -> int:
        """Rows to fill the batch up to, where the model keeps to a few sizes; 0: as it is."""
        if not self._sizes:
            return 0
        rows = sum(ticket.rows for ticket in batch)
        return next((size for size in self._sizes if size >= rows), 0)

    def _deliver(self, batch: Sequence[Ticket[Part]], ran: Ran, started: float) -> None:
        rows = sum(ticket.rows for ticket in batch)
        if self._batchable:
            self._scheduler.latency.observe(self._filled(batch) or rows, ran.run_s)
        told = Batch(
            rows,
            len(batch),
            tuple(started - ticket.arrived for ticket in batch),
            ran.input_s,
            ran.run_s,
            ran.output_s,
            ran.nbytes,
            started,
        )
        at = 0
        for ticket, waited_s in zip(batch, told.queue_s, strict=True):
            outputs = ran.outputs
            if self._batchable:
                outputs = {name: array[at : at + ticket.rows] for name, array in outputs.items()}
            at += ticket.rows
            if not ticket.item.answer.done():
                ticket.item.answer.set_result(Answer(outputs, waited_s, told))
        self._loop.call_soon(self._listen, told)  # after the answers, which are on their way now

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _fail(ticket: Ticket[Part], error: RekindleError) -> None:
    if not ticket.item.answer.done():
        ticket.item.answer.set_exception(error)
