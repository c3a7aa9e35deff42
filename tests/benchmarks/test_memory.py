"""The stored memory plans keep what is promised of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLANS = json.loads((ROOT / "benchmarks" / "results" / "memory.json").read_text())["plans"]


def test_there_are_enough_networks_on_both_targets() -> None:
    assert len({p["model"] for p in PLANS}) >= 12
    assert {p["target"] for p in PLANS} == {"RX 580", "CPU (AVX2)"}


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: f"{p['model']}-{p['batch']}-{p['target']}")
def test_a_plan_is_near_the_lower_bound(plan: dict[str, int]) -> None:
    bound, peak = plan["lower_bound_bytes"], plan["peak_bytes"]
    assert bound <= peak <= 1.15 * bound
    assert peak <= plan["sum_bytes"]
    whole = plan["weight_bytes"] + peak
    assert peak < plan["least_bytes"] <= whole
    assert plan["half_streamed_bytes"] > 0
