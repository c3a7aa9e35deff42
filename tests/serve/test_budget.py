"""Bytes accounted, pins respected, the longest idle first."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rekindle._errors import MemoryLimitError
from rekindle.serve.budget import Budget


def loaded(capacity: int | None, **models: int) -> Budget[str]:
    budget: Budget[str] = Budget(capacity)
    for name, nbytes in models.items():
        assert budget.reserve(name, nbytes)
        assert budget.settle(name, nbytes)
    return budget


def test_the_longest_idle_goes_first_and_only_as_many_as_needed() -> None:
    budget = loaded(100, a=40, b=30, c=30)
    budget.pin("a")
    budget.unpin("a")  # a is now the most recently used
    assert not budget.reserve("d", 50)
    assert budget.victims(50) == ["b", "c"]
    assert budget.victims(20) == ["b"]
    assert budget.victims(0) == []


def test_pinned_and_loading_models_are_never_chosen() -> None:
    budget = loaded(100, a=40, b=30)
    budget.pin("a")
    assert budget.reserve("loading", 30)
    assert budget.victims(30) == ["b"]
    assert budget.victims(31) is None
    budget.unpin("a")
    assert budget.victims(31) == ["b", "a"]


def test_memory_counts_until_it_is_given_back() -> None:
    budget = loaded(100, a=100)
    budget.leave("a")
    assert not budget.reserve("b", 60)
    assert budget.victims(60) == []  # nobody more has to go: a is leaving
    with pytest.raises(ValueError, match="leaving"):
        budget.pin("a")
    budget.release("a")
    assert budget.reserve("b", 60)


def test_too_large_is_refused_with_both_figures() -> None:
    budget = loaded(1000)
    with pytest.raises(MemoryLimitError, match=r"big needs 1,001 bytes; the budget is 1,000"):
        budget.reserve("big", 1001)
    assert budget.reserve("grown", 10)
    with pytest.raises(MemoryLimitError, match="grown needs 2,000"):
        budget.settle("grown", 2000)
    budget.release("grown")
    assert budget.used == 0


def test_what_a_load_really_took_may_evict_others() -> None:
    budget = loaded(100, a=50)
    assert budget.reserve("b", 20)
    assert not budget.settle("b", 70)
    assert budget.victims(0, keep="b") == ["a"]
    budget.release("a")
    assert budget.settle("b", 70)


def test_without_a_limit_everything_fits() -> None:
    budget = loaded(None, a=10**15, b=10**15)
    assert budget.victims(10**18) == []


class Random(RuleBasedStateMachine):
    """Loads, requests and evictions in any order."""

    capacity = 100

    def __init__(self) -> None:
        super().__init__()
        self.budget: Budget[int] = Budget(self.capacity)
        self.pins: dict[int, int] = {}
        self.next = 0

    @rule(nbytes=st.integers(0, 120))
    def load(self, nbytes: int) -> None:
        if nbytes > self.capacity:
            with pytest.raises(MemoryLimitError):
                self.budget.reserve(self.next, nbytes)
            return
        if not self.budget.reserve(self.next, nbytes):
            victims = self.budget.victims(nbytes)
            idle = [k for k, pins in self.pins.items() if not pins]
            enough = self.budget.used - sum(self.budget.holding(k).nbytes for k in idle) + nbytes
            assert (victims is None) == (enough > self.capacity)
            if victims is None:
                return
            for victim in victims:
                assert self.pins[victim] == 0
                self.budget.leave(victim)
                self.budget.release(victim)
                del self.pins[victim]
            assert self.budget.reserve(self.next, nbytes)
        assert self.budget.settle(self.next, nbytes)
        self.pins[self.next] = 0
        self.next += 1

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def pin(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.pins)))
        self.budget.pin(key)
        self.pins[key] += 1

    @precondition(lambda self: any(self.pins.values()))
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(k for k, pins in self.pins.items() if pins)))
        self.budget.unpin(key)
        self.pins[key] -= 1

    @invariant()
    def never_above_the_budget(self) -> None:
        assert self.budget.used <= self.capacity
        for key, pins in self.pins.items():
            assert self.budget.holding(key).pins == pins


TestRandom = Random.TestCase
TestRandom.settings = settings(max_examples=80, stateful_step_count=30)
