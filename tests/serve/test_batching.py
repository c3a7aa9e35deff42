"""The batcher on an event loop with a model that the test steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from rekindle._errors import BusyError, DeadlineError, InputError
from rekindle.graph.ir import Array
from rekindle.serve.batching.batcher import Answer, Batch, Batcher
from rekindle.serve.batching.latency import LatencyModel
from rekindle.serve.batching.scheduler import Scheduler
from rekindle.serve.worker.job import Ran, WorkerLostError, rows_of
from rekindle.serve.worker.thread import joined


class Stepped:
    """A model whose runs end when the test says so: y = 10 * x."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.poison: float | None = None
        self.deaths = 0
        self.revivals = 0

    async def run(self, parts: Sequence[Mapping[str, Array]], rows: int) -> Ran:
        x = joined(parts, rows)["x"]
        self.sizes.append((sum(map(rows_of, parts)), len(x)))
        await self.gate.wait()
        if self.deaths:
            self.deaths -= 1
            raise WorkerLostError("died")
        if self.poison is not None and (x == self.poison).any():
            raise InputError(f"{self.poison} is poison")
        return Ran({"y": 10 * x}, 0.0, 0.001, 0.0)

    async def revive(self) -> None:
        self.revivals += 1


class Bench:
    """A batcher around a stepped model."""

    def __init__(self, *, window_s: float = 0.0, sizes: Sequence[int] = ()) -> None:
        self.model = Stepped()
        self.told: list[Batch] = []
        scheduler: Scheduler[Any] = Scheduler(LatencyModel(8), window_s, 16)
        self.batcher = Batcher(
            self.model, scheduler, batchable=True, sizes=sizes, listen=self.told.append
        )

    def ask(self, *values: float, deadline_s: float | None = None) -> asyncio.Task[Answer]:
        x = np.array(values, np.float32)[:, None]
        deadline = None if deadline_s is None else time.monotonic() + deadline_s
        work = self.batcher.submit({"x": x}, len(values), "s", priority=5, deadline=deadline)
        return asyncio.get_running_loop().create_task(work)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def values(task: asyncio.Task[Answer]) -> list[float]:
    return [float(v) for v in task.result().outputs["y"][:, 0]]


async def settle() -> None:
    """Let every callback that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_what_waits_while_the_model_runs_is_one_batch() -> None:
    async def scene() -> None:
        bench = Bench()
        bench.model.gate.clear()
        tasks = [bench.ask(0)]
        await settle()
        tasks += [bench.ask(1, 2), bench.ask(3), bench.ask(4, 5, 6)]
        await settle()
        bench.model.gate.set()
        await asyncio.gather(*tasks)
        assert bench.model.sizes == [(1, 1), (6, 6)]
        assert [values(t) for t in tasks] == [[0], [10, 20], [30], [40, 50, 60]]
        assert [(b.rows, b.requests, len(b.queue_s)) for b in bench.told] == [(1, 1, 1), (6, 3, 3)]

    run(scene)


def test_few_sizes_are_filled_up_and_nobody_sees_it() -> None:
    async def scene() -> None:
        bench = Bench(sizes=(1, 2, 4, 8))
        task = bench.ask(1, 2, 3)
        await task
        assert bench.model.sizes == [(3, 4)]
        assert values(task) == [10, 20, 30]
        assert bench.told[0].rows == 3

    run(scene)


def test_a_cancelled_request_leaves_its_batch() -> None:
    async def scene() -> None:
        bench = Bench()
        bench.model.gate.clear()
        first = bench.ask(0)
        await settle()
        kept, gone = bench.ask(1), bench.ask(2)
        await settle()
        gone.cancel()
        await settle()
        bench.model.gate.set()
        await asyncio.gather(first, kept)
        assert bench.model.sizes == [(1, 1), (1, 1)]
        assert gone.cancelled()

    run(scene)


def test_the_window_is_waited_for_once() -> None:
    async def scene() -> None:
        bench = Bench(window_s=0.05)
        tasks = [bench.ask(1)]
        await asyncio.sleep(0.01)
        tasks.append(bench.ask(2))
        await asyncio.gather(*tasks)
        assert bench.model.sizes == [(2, 2)]
        queue_s = bench.told[0].queue_s
        assert queue_s[0] >= 0.05  # since the first came; not since the second

    run(scene)


def test_a_bad_request_fails_alone() -> None:
    async def scene() -> None:
        bench = Bench()
        bench.model.poison = 2
        bench.model.gate.clear()
        tasks = [bench.ask(0)]
        await settle()
        tasks += [bench.ask(1), bench.ask(2), bench.ask(3)]
        await settle()
        bench.model.gate.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[2], InputError)
        assert [values(tasks[k]) for k in (0, 1, 3)] == [[0], [10], [30]]

    run(scene)


def test_a_lost_worker_fails_its_own_requests_only() -> None:
    async def scene() -> None:
        bench = Bench()
        bench.model.deaths = 1
        bench.model.gate.clear()
        first = bench.ask(0)
        await settle()
        second = bench.ask(1)
        await settle()
        bench.model.gate.set()
        done = await asyncio.gather(first, second, return_exceptions=True)
        assert isinstance(done[0], WorkerLostError)
        assert values(second) == [10]
        assert bench.model.revivals == 1

    run(scene)


def test_late_requests_and_full_queues_are_refused() -> None:
    async def scene() -> None:
        bench = Bench()
        bench.model.gate.clear()
        first = bench.ask(0)
        await settle()
        late = bench.ask(1, deadline_s=0.001)
        others = [bench.ask(2) for _ in range(15)]
        await settle()
        with pytest.raises(BusyError, match="16 requests wait"):
            await bench.ask(3)
        await asyncio.sleep(0.01)
        bench.model.gate.set()
        with pytest.raises(DeadlineError):
            await late
        await asyncio.gather(first, *others)

    run(scene)
