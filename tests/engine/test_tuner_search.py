"""The search, with a device that only pretends: order, budget, resumption, what is never best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kernel_harness import CPU8
from recorded_devices import devices, pocl
from tuning_cases import planned_calls, products

from rekindle._errors import KernelError
from rekindle.engine.choices import Setting, choose
from rekindle.engine.kernels import Context
from rekindle.engine.peaks import Peaks
from rekindle.engine.tuner import store
from rekindle.engine.tuner.records import Environment, Measurement
from rekindle.engine.tuner.search import BATCH, Search, Task
from rekindle.engine.tuner.workload import workload
from rekindle.graph.lowering import LogicalCall

TARGET = replace(CPU8, platform="PoCL", driver="PoCL 3.0 | 3.0")
HERE = Environment.of(TARGET)
(DEVICE,) = devices(pocl())


class Bench:
    """Times variants by a rule, and counts; a second passes with each comparison."""

    def __init__(self, seconds: Callable[[Setting], float]) -> None:
        self.seconds, self.now, self.compared = seconds, 0.0, []
        self.status: dict[str, str] = {}

    def clock(self) -> float:
        return self.now

    def compare(
        self, _: Any, call: LogicalCall, __: Context, settings: Sequence[Setting], rounds: int
    ) -> list[Measurement]:
        self.now += 1.0
        self.compared.append((call.node, [str(s) for s in settings], rounds))
        base = self.seconds(settings[0])
        return [
            Measurement(
                s, settings[0], self.status.get(str(s), "ok"), self.seconds(s), base,  # type: ignore[arg-type]
                self.seconds(s) / base, rounds,
            )
            for s in settings
        ]  # fmt: skip


def small_is_fast(setting: Setting) -> float:
    """The heuristic's tile is tall; here P = 2 is best."""
    return 1.0 + abs(dict(setting.variant).get("P", 9) - 2)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> store.Journal:
    monkeypatch.setenv("REKINDLE_CACHE_DIR", str(tmp_path))
    return store.Journal(HERE)


def tasks() -> list[Task]:
    made = []
    for call, context in planned_calls(products(), TARGET):
        name = workload(call, context)
        assert name
        made.append(Task(name, call, context, [call.node]))
    return made


def search(journal: store.Journal, bench: Bench, budget_s: float, *chosen: Task) -> Search:
    peaks = Peaks(1e9, 1e9, 1e-5)
    return Search(DEVICE, chosen or tasks(), journal, peaks, budget_s, bench.clock, bench.compare)


def test_the_heuristic_is_the_base_of_every_comparison_and_every_class_comes_first_once(
    journal: store.Journal,
) -> None:
    bench, known = Bench(lambda _: 1.0), tasks()
    turns = list(search(journal, bench, 3.0, *known).run())
    assert len(turns) == len(bench.compared) == 3
    assert {node for node, _, _ in bench.compared} == {task.call.node for task in known}
    for (_, settings, _), turn in zip(bench.compared, turns, strict=True):
        heuristic = choose(turn.task.call, turn.task.context)
        assert settings[0].startswith(heuristic.name + " ")
        assert settings[0] == str(turn.task.heuristic)
        assert len(settings) == min(1 + BATCH, len(turn.task.settings))


def test_a_budget_ends_the_search_between_turns(journal: store.Journal) -> None:
    bench = Bench(lambda _: 1.0)
    turns = list(search(journal, bench, 5.0).run())
    assert [turn.elapsed_s for turn in turns] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert list(search(journal, bench, 0.0).run()) == []


def test_a_search_goes_on_where_another_ended_and_finds_the_best(journal: store.Journal) -> None:
    task = next(t for t in tasks() if t.call.node == "constant")
    bench = Bench(small_is_fast)
    first = list(search(journal, bench, 2.0, task).run())
    assert first[-1].left > 0
    tried = {key for _, keys, rounds in bench.compared if rounds == 7 for key in keys[1:]}
    more = Bench(small_is_fast)
    again = store.Journal(HERE)
    rest = list(search(again, more, 1e6, replace(task, turns=0)).run())
    assert rest[-1].left == 0
    assert tried.isdisjoint(k for _, keys, rounds in more.compared if rounds == 7 for k in keys[1:])
    best = again.records.best(task.call, task.context)
    assert best
    assert dict(best.variant)["P"] == 2
    assert list(search(again, more, 1e6, task).run()) == []


def test_a_new_best_is_measured_again_and_that_figure_counts(journal: store.Journal) -> None:
    task = next(t for t in tasks() if t.call.node == "constant")
    lucky = {str(task.settings[i]): 0.5 + i / 100 for i in (1, 3)}

    class Lucky(Bench):
        def compare(self, *args: Any) -> list[Measurement]:
            found = super().compare(*args)
            if args[-1] != 7:
                return found
            return [replace(m, ratio=lucky.get(str(m.setting), 1.0)) for m in found]

    bench = Lucky(lambda _: 1.0)
    list(search(journal, bench, 1.0, task).run())
    assert [rounds for _, _, rounds in bench.compared] == [7, 15]
    assert {journal.records.table[task.name][key].ratio for key in lucky} == {1.0}
    assert journal.records.best(task.call, task.context) is None


@pytest.mark.parametrize("status", ["wrong", "broken"])
def test_a_wrong_or_broken_variant_is_told_and_never_best(
    journal: store.Journal, status: str
) -> None:
    task = next(t for t in tasks() if t.call.node == "constant")
    bench = Bench(small_is_fast)
    bench.status = {str(s): status for s in task.settings if dict(s.variant)["P"] == 2}
    list(search(journal, bench, 1e6, task).run())
    best = journal.records.best(task.call, task.context)
    assert best
    assert dict(best.variant)["P"] in (1, 3)
    told = [m for m in journal.records.table[task.name].values() if m.status == status]
    assert {str(m.setting) for m in told} == set(bench.status)


def test_an_interrupted_turn_leaves_nothing_and_what_was_found_stays(
    journal: store.Journal,
) -> None:
    task = next(t for t in tasks() if t.call.node == "constant")

    class Interrupted(Bench):
        def compare(self, *args: Any) -> list[Measurement]:
            if self.now >= 2:
                raise KeyboardInterrupt
            return super().compare(*args)

    bench = Interrupted(lambda _: 1.0)
    with pytest.raises(KeyboardInterrupt):
        list(search(journal, bench, 1e6, task).run())
    kept = store.read(HERE).table[task.name]
    assert {m.status for m in kept.values()} == {"ok"}
    assert len(kept) == 1 + 2 * BATCH


def test_what_killed_the_process_is_not_tried_again(journal: store.Journal) -> None:
    task = next(t for t in tasks() if t.call.node == "constant")
    deadly = task.settings[1]
    journal.add(task.name, Measurement(deadly, task.heuristic, "started"))
    bench = Bench(small_is_fast)
    list(search(journal, bench, 1e6, task).run())
    assert all(str(deadly) not in keys for _, keys, _ in bench.compared)


def test_a_class_whose_heuristic_does_not_run_is_left_alone(journal: store.Journal) -> None:
    class Refusing(Bench):
        def compare(self, *args: Any) -> list[Measurement]:
            self.now += 1
            raise KernelError("the driver says no")

    bench, chosen = Refusing(lambda _: 1.0), tasks()
    list(search(journal, bench, 1e6, *chosen).run())
    assert bench.now == len(chosen)
    assert {task.failure for task in chosen} == {"the driver says no"}
    assert len(store.read(HERE)) == 0


def test_another_heuristic_makes_records_old(journal: store.Journal) -> None:
    task = next(t for t in tasks() if t.call.node == "constant")
    bench = Bench(small_is_fast)
    list(search(journal, bench, 1e6, task).run())
    other = replace(task, turns=0)
    other.settings = [task.settings[5], *task.settings[:5], *task.settings[6:]]
    assert len(other.left(journal)) == len(task.settings)


def test_imported_variants_are_measured_before_others(journal: store.Journal) -> None:
    task = next(t for t in tasks() if t.call.node == "constant")
    last = task.settings[-1]
    journal.add(task.name, Measurement(last, task.heuristic, "ok", 1.0, 2.0, 0.5, 7, imported=True))
    assert [str(s) for s in task.left(journal)[:2]] == [str(task.heuristic), str(last)]
