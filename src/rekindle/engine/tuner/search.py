"""The search: which variants are measured, in which order, and until when.

For each class of calls the heuristic's choice is the baseline of every measurement. The prior is
the specs' own: each kernel lists its variants best first by its model of registers, jobs and
occupancy, and the kernels take turns in the order of their scores. Time goes where most of it can
be won: to the class whose time above the device's arithmetic roofline, times its number of layers,
over the turns it has had, is greatest.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rekindle._errors import RekindleError
from rekindle.device import Device
from rekindle.engine import choices
from rekindle.engine.choices import Setting
from rekindle.engine.kernels import Context
from rekindle.engine.peaks import Peaks
from rekindle.engine.plan import plan_call
from rekindle.engine.tuner import measure
from rekindle.engine.tuner.records import MARGIN, Measurement
from rekindle.engine.tuner.store import Journal
from rekindle.graph.lowering import LogicalCall

BATCH = 4
"""Variants measured beside the heuristic's in one turn: they share its runs and one program."""
CONFIRMING_ROUNDS = 15
Compare = Callable[[Device, LogicalCall, Context, Sequence[Setting], int], list[Measurement]]


@dataclass
class Task:
    """A class of calls to tune, by one of them."""

    name: str
    """As `workload` says it."""
    call: LogicalCall
    context: Context
    layers: list[str] = field(default_factory=list)
    """The nodes whose calls are of this class; as often as they have one."""
    turns: int = 0
    failure: str = ""
    """Why nothing can be measured: the heuristic's own variant does not run."""

    def __post_init__(self) -> None:
        rows = choices.settings(self.call, self.context)
        turns = itertools.chain.from_iterable(itertools.zip_longest(*rows))
        self.settings = [setting for setting in turns if setting is not None]

    @functools.cached_property
    def flops(self) -> int:
        """Operations of one call, as the heuristic's kernel counts them."""
        return sum(launch.flops for launch in plan_call(self.call, self.context).launches())

    @property
    def heuristic(self) -> Setting:
        return self.settings[0]

    def left(self, journal: Journal) -> list[Setting]:
        """What is not measured yet beside the present heuristic's choice, best first."""
        if self.failure:
            return []
        known = journal.records.table.get(self.name, {})
        done = {
            key
            for key, m in known.items()
            if str(m.against) == str(self.heuristic) and not m.imported
        }
        left = [s for s in self.settings if str(s) not in done]
        imported = {key for key, m in known.items() if m.imported}
        return sorted(left, key=lambda s: (s != self.heuristic, str(s) not in imported))


@dataclass(frozen=True)
class Turn:
    """What one turn found."""

    task: Task
    measured: tuple[Measurement, ...]
    elapsed_s: float
    left: int
    """Variants of all classes that are not measured yet."""


@dataclass
class Search:
    """Measures the tasks' variants on a device, most promising first, within a budget."""

    device: Device
    tasks: Sequence[Task]
    journal: Journal
    peaks: Peaks
    budget_s: float
    clock: Callable[[], float] = time.monotonic
    compare: Compare = measure.compare

    def run(self) -> Iterator[Turn]:
        """Turn after turn until nothing is left or the time is over; a turn is never cut off.

        Everything measured is in the journal when a turn is told. What a turn that was
        interrupted had begun is taken back; what the process died of stays marked.
        """
        start = self.clock()
        while self.clock() - start < self.budget_s:
            open_tasks = [task for task in self.tasks if task.left(self.journal)]
            if not open_tasks:
                return
            task = max(open_tasks, key=self._promise)
            found = self._turn(task)
            left = sum(len(t.left(self.journal)) for t in self.tasks)
            yield Turn(task, tuple(found), self.clock() - start, left)

    def _promise(self, task: Task) -> float:
        """Seconds of a run that can be won at most, over the turns already given."""
        roof_s = task.flops / self.peaks.flops_s
        best = self.journal.records.fastest(task.name)
        if best is None:  # not measured yet: by the roofline, and before all that are
            return 1e6 + len(task.layers) * roof_s
        spent_s = best.heuristic_s * min(best.ratio, 1.0)
        above = max(spent_s - roof_s, 0.1 * spent_s)
        return len(task.layers) * above / (1 + task.turns)

    def _turn(self, task: Task) -> list[Measurement]:
        task.turns += 1
        batch = [s for s in task.left(self.journal) if s != task.heuristic][:BATCH]
        begun = [Measurement(s, task.heuristic, "started") for s in batch]
        self.journal.add(task.name, *begun)
        try:
            found = self._compare(task, [task.heuristic, *batch])
            found = self._confirmed(task, found)
        except RekindleError as error:
            self.journal.remove(task.name, *begun)
            task.failure = error.message
            return []
        except BaseException:
            self.journal.remove(task.name, *begun)
            raise
        self.journal.add(task.name, *found)
        return found

    def _compare(
        self, task: Task, settings: Sequence[Setting], rounds: int = 7
    ) -> list[Measurement]:
        return self.compare(self.device, task.call, task.context, settings, rounds)

    def _confirmed(self, task: Task, found: list[Measurement]) -> list[Measurement]:
        """What seems to be better than the best is measured once more, beside it.

        The least of many measurements is too low: only the second figure counts.
        """
        old = self.journal.records.fastest(task.name)
        if old and str(old.against) != str(task.heuristic):
            old = None
        wanted = MARGIN * (old.ratio if old else 1.0)
        good = [m for m in found[1:] if m.status == "ok" and m.ratio < wanted]
        if not good:
            return found
        known = {str(s): s for s in task.settings}
        names = [task.heuristic, *(m.setting for m in good), *([old.setting] if old else [])]
        rivals = list(dict.fromkeys(known[str(s)] for s in names if str(s) in known))
        again = self._compare(task, rivals, CONFIRMING_ROUNDS)
        kept = {str(m.setting): m for m in (*found, *again)}
        return list(kept.values())
