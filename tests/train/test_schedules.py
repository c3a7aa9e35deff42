"""Learning-rate schedules against closed forms and torch's own schedulers."""

from __future__ import annotations

import itertools
import math

import pytest

from rekindle._errors import UsageError
from rekindle.train.schedules import SCHEDULES, factor


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_warmup_rises_linearly_to_one(name: str) -> None:
    assert factor(name, 0.0, warmup=0.2) == 0.0
    assert factor(name, 0.05, warmup=0.2) == pytest.approx(0.25)
    assert factor(name, 0.2, warmup=0.2) == 1.0


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_no_schedule_rises_after_the_warmup(name: str) -> None:
    values = [factor(name, p / 1000, warmup=0.1) for p in range(100, 1001)]
    assert all(a >= b for a, b in itertools.pairwise(values))
    assert 0.0 <= values[-1] <= values[0] == 1.0


def test_closed_forms() -> None:
    assert factor("constant", 0.9) == 1.0
    assert factor("linear", 0.55, warmup=0.1) == pytest.approx(0.5)
    assert factor("cosine", 0.25) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert factor("cosine", 1.0) == pytest.approx(0.0, abs=1e-15)
    assert [factor("steps", p) for p in (0.49, 0.5, 0.74, 0.75)] == [1.0, 0.1, 0.1, 0.01]


@pytest.mark.torch
def test_cosine_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=13)
    for step in range(13):
        assert factor("cosine", step / 13) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_an_unknown_name_is_answered_with_a_near_one() -> None:
    with pytest.raises(UsageError, match="did you mean cosine"):
        factor("cosin", 0.5)


@pytest.mark.parametrize(("progress", "warmup"), [(-0.1, 0.0), (1.1, 0.0), (0.5, 1.0), (0.5, -1)])
def test_fractions_outside_their_range_are_refused(progress: float, warmup: float) -> None:
    with pytest.raises(UsageError, match=r"in \[0, 1\]"):
        factor("cosine", progress, warmup=warmup)
