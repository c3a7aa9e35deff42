"""Who runs together and when, on a clock that the tests turn."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rekindle._errors import BusyError, InputError
from rekindle.serve.batching.latency import LatencyModel
from rekindle.serve.batching.scheduler import Scheduler, Ticket

WINDOW = 0.01


def scheduler(
    max_rows: int = 8, *, window_s: float = WINDOW, max_queue: int = 100
) -> Scheduler[str]:
    return Scheduler(LatencyModel(max_rows), window_s, max_queue)


def ticket(name: str = "", rows: int = 1, at: float = 0.0, **rest: object) -> Ticket[str]:
    values: dict[str, object] = {"shape": "s", "priority": 5} | rest
    return Ticket(name, rows, arrived=at, **values)  # type: ignore[arg-type]


def names(batch: list[Ticket[str]]) -> str:
    return "".join(t.item for t in batch)


def test_an_idle_model_waits_for_the_window_and_not_longer() -> None:
    queue = scheduler()
    queue.add(ticket("a", at=1.0))
    assert queue.take(1.0) == []
    assert queue.wake() == pytest.approx(1.0 + WINDOW)
    queue.add(ticket("b", at=1.0 + WINDOW / 2))
    assert queue.wake() == pytest.approx(1.0 + WINDOW)  # the oldest counts, not the newest
    assert names(queue.take(1.0 + WINDOW)) == "ab"
    assert queue.wake() is None


def test_a_full_batch_waits_for_nothing() -> None:
    queue = scheduler(max_rows=3)
    for name in "abcd":
        queue.add(ticket(name, at=1.0))
    assert names(queue.take(1.0)) == "abc"
    assert queue.take(1.0) == []
    assert names(queue.take(1.0 + WINDOW)) == "d"


def test_rows_count_not_requests_and_nobody_overtakes() -> None:
    queue = scheduler(max_rows=8)
    for name, rows in (("a", 3), ("b", 4), ("c", 2), ("d", 1)):
        queue.add(ticket(name, rows, at=1.0))
    assert names(queue.take(1.0)) == "ab"  # d would fit, but c came first
    assert names(queue.take(1.0 + WINDOW)) == "cd"


def test_more_rows_than_a_run_takes_are_refused() -> None:
    with pytest.raises(InputError, match="9 rows; a run takes 8"):
        scheduler(max_rows=8).add(ticket(rows=9))


def test_a_full_queue_refuses() -> None:
    queue = scheduler(max_queue=2)
    queue.add(ticket())
    queue.add(ticket())
    with pytest.raises(BusyError, match="2 requests wait"):
        queue.add(ticket())
    assert len(queue) == 2


def test_shapes_do_not_mix_and_urgent_ones_go_first() -> None:
    queue = scheduler(max_rows=2)
    queue.add(ticket("a", at=1.0, shape="x"))
    queue.add(ticket("b", at=1.0, shape="y", priority=1))
    queue.add(ticket("c", at=1.0, shape="x", priority=2))
    queue.add(ticket("d", at=1.0, shape="x"))
    late = 1.0 + WINDOW
    assert [names(queue.take(late)) for _ in range(3)] == ["b", "ca", "d"]


def test_a_cancelled_request_leaves_and_an_expired_one_never_runs() -> None:
    queue = scheduler()
    kept, gone = ticket("a", at=1.0), ticket("b", at=1.0)
    late = ticket("c", at=1.0, deadline=1.0 + WINDOW)
    for item in (kept, gone, late):
        queue.add(item)
    assert queue.remove(gone)
    assert not queue.remove(gone)
    assert queue.expire(1.0 + WINDOW) == [late]
    assert names(queue.take(1.0 + WINDOW)) == "a"
    assert not queue.remove(kept)


def test_a_near_deadline_ends_the_waiting() -> None:
    queue = Scheduler[str](LatencyModel(8, [(1, 0.002), (8, 0.004)]), WINDOW, 100)
    queue.latency._target = 8
    queue.add(ticket("a", at=1.0, deadline=1.015))
    due = queue.wake()
    assert due is not None
    # Half as long again as the predicted run, and at least a window, before the deadline.
    assert due == pytest.approx(1.015 - max(1.5 * 0.002, WINDOW))


def test_waiting_in_vain_is_given_up_and_tried_again() -> None:
    queue = scheduler()
    now, waits = 1.0, []
    for _ in range(192):
        queue.add(ticket(at=now))
        due = queue.wake()
        assert due is not None
        waits.append(due > now)
        assert len(queue.take(max(due, now))) == 1
        now = max(due, now) + 1.0
    assert waits[:2] == [True, True]
    assert sum(waits[3:]) <= 4  # once in 64 times, to see whether that has changed
    assert any(waits[10:])
    for _ in range(40):  # company comes, each time: it pays again
        queue.add(ticket(at=now))
        queue.add(ticket(at=now))
        queue.take(max(queue.wake() or now, now))
        now += 1.0
    queue.add(ticket(at=now))
    assert queue.wake() == pytest.approx(now + WINDOW)


@pytest.mark.parametrize(
    ("constant", "per_row", "target", "cap"),
    [
        (0.010, 0.0001, 15, 16),  # launch-bound: the more the better
        (0.0, 0.001, 1, 16),  # every row costs the same: waiting gains nothing, batching no harm
        (0.001, 0.001, 6, 16),  # 6 rows reach 0.9 of what 16 do
    ],
)
def test_sizes_follow_from_measured_latency(
    constant: float, per_row: float, target: int, cap: int
) -> None:
    model = LatencyModel(16, [(n, constant + per_row * n) for n in (1, 2, 4, 8, 16)])
    best = 16 / (constant + 16 * per_row)
    expected = next(n for n in range(1, 17) if n / (constant + n * per_row) >= 0.9 * best)
    assert (model.target, model.cap()) == (target, cap)
    assert expected == target
    assert model.predict(12) == pytest.approx(constant + 12 * per_row)


def test_a_size_that_is_slower_is_avoided_but_tried_again() -> None:
    model = LatencyModel(16, [(1, 0.001), (4, 0.002), (8, 0.003), (16, 0.1)])
    caps = [model.cap() for _ in range(64)]
    assert min(caps) == 8
    assert caps.count(16) == 2  # once in 32 times
    for _ in range(64):
        model.observe(16, 0.005)
    assert model.cap() == 16


arrival = st.tuples(
    st.floats(0, 0.05),  # gap
    st.integers(1, 5),  # rows
    st.sampled_from("xy"),
    st.integers(1, 3),  # priority
    st.none() | st.floats(0.001, 0.1),  # deadline after arrival
)


@given(st.lists(arrival, max_size=30), st.floats(0.0005, 0.05), st.integers(5, 9))
@settings(max_examples=150)
def test_simulated_service(
    arrivals: list[tuple[float, int, str, int, float | None]], run_s: float, max_rows: int
) -> None:
    """A single server over simulated time: all invariants, and nobody is forgotten."""
    queue = scheduler(max_rows)
    now, free = 0.0, 0.0
    pending = []
    for gap, rows, shape, priority, patience in arrivals:
        now += gap
        deadline = None if patience is None else now + patience
        pending.append(ticket("t", rows, now, shape=shape, priority=priority, deadline=deadline))
    waiting: list[Ticket[str]] = []
    done: list[Ticket[str]] = []
    last: dict[tuple[object, int], int] = {}
    now = 0.0
    for _ in range(500):
        while pending and pending[0].arrived <= now:
            waiting.append(pending[0])
            queue.add(pending.pop(0))
        if now >= free:
            for late in queue.expire(now):
                assert late.deadline is not None
                assert late.deadline <= now
                waiting.remove(late)
                done.append(late)
            batch = queue.take(now)
            if batch:
                assert sum(t.rows for t in batch) <= max_rows
                assert len({t.shape for t in batch}) == 1
                for t in batch:
                    assert t.deadline is None or t.deadline > now
                    # first come, first served, within a shape and a priority
                    assert last.get((t.shape, t.priority), 0) < t.number
                    last[t.shape, t.priority] = t.number
                    waiting.remove(t)
                    done.append(t)
                free = now + run_s
            elif waiting:
                due = queue.wake()
                assert due is not None
                assert due > now
                oldest = min(t.arrived for t in waiting if t.shape == next_shape(queue))
                assert due <= oldest + WINDOW
        assert len(queue) == len(waiting)
        moments = [t.arrived for t in pending[:1]] + ([free] if free > now else [])
        if free <= now and (due := queue.wake()) is not None:
            moments.append(due)
        if not moments:
            break
        now = max(min(moments), now)
    assert not waiting
    assert len(done) == len(arrivals)


def next_shape(queue: Scheduler[str]) -> object:
    """The shape that is due next."""
    return min(queue._queues, key=queue._due)


class Random(RuleBasedStateMachine):
    """Adding, cancelling, expiring and taking in any order keeps the books."""

    @initialize(max_rows=st.integers(1, 6))
    def begin(self, max_rows: int) -> None:
        self.queue = scheduler(max_rows, max_queue=8)
        self.max_rows, self.now = max_rows, 0.0
        self.inside: list[Ticket[str]] = []

    @rule(rows=st.integers(1, 6), shape=st.sampled_from("xyz"), priority=st.integers(1, 9))
    def add(self, rows: int, shape: str, priority: int) -> None:
        new = ticket("t", rows, self.now, shape=shape, priority=priority, deadline=self.now + 0.1)
        if rows > self.max_rows:
            with pytest.raises(InputError):
                self.queue.add(new)
        elif len(self.inside) == 8:
            with pytest.raises(BusyError):
                self.queue.add(new)
        else:
            self.queue.add(new)
            self.inside.append(new)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.inside))
        assert self.queue.remove(gone)
        assert not self.queue.remove(gone)
        self.inside.remove(gone)

    @rule(step=st.floats(0, 0.05))
    def pass_time(self, step: float) -> None:
        self.now += step
        for late in self.queue.expire(self.now):
            self.inside.remove(late)

    @rule()
    def take(self) -> None:
        for taken in self.queue.take(self.now):
            self.inside.remove(taken)

    @invariant()
    def the_books_are_right(self) -> None:
        if hasattr(self, "queue"):
            assert len(self.queue) == len(self.inside)
            assert self.queue.rows == sum(t.rows for t in self.inside)
            assert (self.queue.wake() is None) == (not self.inside)


TestRandom = Random.TestCase
TestRandom.settings = settings(max_examples=60, stateful_step_count=30)
