"""Executors for several inputs at a time: a lane each, with its own queue and activations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack

from rekindle.engine.cache import Executors
from rekindle.engine.executor import Executor
from rekindle.engine.plan import Plan
from rekindle.graph.ir import Array


class Lanes:
    """Takes turns on each lane, and on all of them while an executor comes or goes. Thread-safe.

    Lane 0 is always there; `grow` makes more.
    """

    def __init__(self, executors: Executors) -> None:
        self._executors = executors
        self._turns = [threading.Lock()]

    def grow(self, count: int) -> None:
        """At least `count` lanes."""
        self._turns += [threading.Lock() for _ in range(count - len(self._turns))]

    def run(
        self,
        lane: int,
        key: Hashable,
        feeds: Mapping[str, Array],
        planned: Callable[[], Plan],
        using: Callable[[Executor], None],
    ) -> dict[str, Array]:
        """Run on a lane the plan of `key`, which `planned` makes where no lane has it yet.

        `using` is told of the executor before it runs. MemoryLimitError where this lane's
        activations do not fit beside those of the other lanes for the same key.
        """
        while True:
            with self._turns[lane]:
                if executor := self._executors.get((lane, key)):
                    using(executor)
                    return executor.run(feeds)
            self.open(lane, key, planned)

    def open(self, lane: int, key: Hashable, planned: Callable[[], Plan]) -> Executor:
        """The executor of a lane, made while nothing runs: others may have to give way to it."""
        with ExitStack() as stack:
            for turn in tuple(self._turns):
                stack.enter_context(turn)
            if executor := self._executors.get((lane, key)):
                return executor
            pairs = ((other, key) for other in range(len(self._turns)))
            beside = {pair: e for pair in pairs if (e := self._executors.get(pair))}
            plan = next((e.plan for e in beside.values()), None) or planned()
            return self._executors.add((lane, key), plan, tuple(beside))
