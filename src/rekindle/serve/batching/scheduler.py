"""Which requests run together, and when: a computation over given times, without clock or I/O.

Requests wait in a queue per shape, urgent ones first, older before newer. When the model is free,
a queue is due as soon as it holds enough rows, its oldest request has waited for the window, or a
deadline leaves no time for more waiting. A run takes requests from the front while their rows fit.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from rekindle._errors import BusyError, InputError
from rekindle.serve.batching.latency import LatencyModel

T = TypeVar("T")


@dataclass(eq=False)
class Ticket(Generic[T]):
    """A request in the queue; `item` is the caller's own. Times are monotonic seconds."""

    item: T
    rows: int
    shape: Hashable
    priority: int
    arrived: float
    deadline: float | None = None
    number: int = field(default=0, compare=False)

    @property
    def order(self) -> tuple[int, int]:
        return self.priority, self.number


class Patience:
    """Whether waiting for company pays, learnt from whether anybody came.

    A lone client that asks one thing after another would otherwise wait each time in vain. Once
    in 64 times the window is waited for all the same, to notice when that has changed.
    """

    def __init__(self) -> None:
        self._paid = 0.5
        self._turns = 0

    @property
    def waits(self) -> bool:
        return self._paid >= 0.25 or self._turns % 64 == 0

    def learn(self, *, waited: bool, company: bool) -> None:
        self._turns += 1
        if waited or company:
            self._paid += 0.25 * (company - self._paid)


class Scheduler(Generic[T]):
    """The queues of one model, which runs one batch at a time."""

    def __init__(self, latency: LatencyModel, window_s: float, max_queue: int) -> None:
        self.latency = latency
        self._window_s = window_s
        self._max_queue = max_queue
        self._queues: dict[Hashable, list[Ticket[T]]] = {}
        self._patience: dict[Hashable, Patience] = {}
        self._numbers = itertools.count(1)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def rows(self) -> int:
        return sum(t.rows for queue in self._queues.values() for t in queue)

    def add(self, ticket: Ticket[T]) -> None:
        """Queue a request. BusyError when the queue is full, InputError when it can never run."""
        if ticket.rows > self.latency.max_rows:
            raise InputError(
                f"the request has {ticket.rows} rows; a run takes {self.latency.max_rows} at most",
                hint="send it in parts, or raise max_batch",
            )
        if self._length >= self._max_queue:
            raise BusyError(f"{self._length} requests wait already", hint="try again later")
        ticket.number = next(self._numbers)
        queue = self._queues.setdefault(ticket.shape, [])
        bisect.insort(queue, ticket, key=lambda t: t.order)
        self._length += 1

    def remove(self, ticket: Ticket[T]) -> bool:
        """Take a cancelled request out; False where it runs already, or has run."""
        queue = self._queues.get(ticket.shape, [])
        at = bisect.bisect_left(queue, ticket.order, key=lambda t: t.order)
        if at == len(queue) or queue[at] is not ticket:
            return False
        self._drop(queue, at, at + 1)
        return True

    def expire(self, now: float) -> list[Ticket[T]]:
        """Take out and return the requests whose deadline has passed."""
        late = [
            ticket
            for queue in self._queues.values()
            for ticket in queue
            if ticket.deadline is not None and ticket.deadline <= now
        ]
        for ticket in late:
            self.remove(ticket)
        return late

    def take(self, now: float) -> list[Ticket[T]]:
        """The next batch, out of the queue: urgent first, then who is due longest; or nothing."""
        due = {shape: at for shape in self._queues if (at := self._due(shape)) <= now}
        if not due:
            return []
        shape = min(due, key=lambda s: (self._queues[s][0].priority, due[s]))
        queue = self._queues[shape]
        count, rows, limit = 0, 0, self.latency.cap()
        for ticket in queue:
            if count and rows + ticket.rows > limit:
                break
            count, rows = count + 1, rows + ticket.rows
        batch = queue[:count]
        # Only a wait that the model was free for tells anything about waiting.
        waited = now >= min(t.arrived for t in batch) + self._window_s > 0
        self._patient(shape).learn(waited=waited, company=count > 1)
        self._drop(queue, 0, count)
        return batch

    def drain(self) -> list[Ticket[T]]:
        """Take everything out."""
        tickets = [ticket for queue in self._queues.values() for ticket in queue]
        self._queues.clear()
        self._length = 0
        return tickets

    def wake(self) -> float | None:
        """When a free model should ask again: the moment the next queue is due; None: no queue."""
        return min((self._due(shape) for shape in self._queues), default=None)

    def _due(self, shape: Hashable) -> float:
        """From when on this queue may run; in the past where it may run at once."""
        queue = self._queues[shape]
        oldest = min(ticket.arrived for ticket in queue)
        rows = sum(ticket.rows for ticket in queue)
        if rows >= self.latency.target or not self._window_s or not self._patient(shape).waits:
            return oldest
        due = oldest + self._window_s
        deadlines = [t.deadline for t in queue if t.deadline is not None]
        if deadlines:
            # Half as long again as predicted, and never at the deadline itself.
            needed = max(1.5 * self.latency.predict(rows), self._window_s)
            due = min(due, min(deadlines) - needed)
        return max(due, oldest)

    def _patient(self, shape: Hashable) -> Patience:
        if shape not in self._patience:
            if len(self._patience) >= 256:
                self._patience.clear()  # shapes of a model with many of them; learnt anew
            self._patience[shape] = Patience()
        return self._patience[shape]

    def _drop(self, queue: list[Ticket[T]], start: int, stop: int) -> None:
        shape = queue[start].shape
        self._length -= stop - start
        del queue[start:stop]
        if not queue:
            del self._queues[shape]
