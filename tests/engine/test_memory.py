"""The memory planner against its own definition, on random lifetimes."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from rekindle.engine.memory import Lifetime, pack

lifetimes = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 30), st.integers(0, 30)), max_size=25
).map(
    lambda rows: [
        Lifetime(f"v{k}", nbytes, min(a, b), max(a, b)) for k, (nbytes, a, b) in enumerate(rows)
    ]
)


@given(lifetimes, st.sampled_from([1, 64, 128, 4096]))
def test_no_two_live_values_share_bytes(values: list[Lifetime], alignment: int) -> None:
    plan = pack(values, alignment)
    for a, b in itertools.combinations(values, 2):
        if a.first <= b.last and b.first <= a.last:
            start_a, start_b = plan.offsets[a.name], plan.offsets[b.name]
            assert start_a + max(a.nbytes, 1) <= start_b or start_b + max(b.nbytes, 1) <= start_a


@given(lifetimes, st.sampled_from([1, 64, 128, 4096]))
def test_offsets_are_aligned_and_the_arena_holds_everything(
    values: list[Lifetime], alignment: int
) -> None:
    plan = pack(values, alignment)
    for value in values:
        assert plan.offsets[value.name] % alignment == 0
        assert plan.offsets[value.name] + value.nbytes <= plan.arena_bytes
    alive = [sum(plan.sizes[v.name] for v in values if v.first <= t <= v.last) for t in range(31)]
    assert plan.lower_bound_bytes == max(alive)
    assert plan.arena_bytes >= plan.lower_bound_bytes


def test_a_chain_needs_two_buffers() -> None:
    values = [Lifetime(f"v{k}", 1000, k, k + 1) for k in range(10)]
    plan = pack(values, 8)
    assert plan.arena_bytes == 2000


def test_an_empty_value_still_has_an_address() -> None:
    plan = pack([Lifetime("a", 0, 0, 1), Lifetime("b", 0, 0, 1)], 128)
    assert sorted(plan.offsets.values()) == [0, 128]
    assert plan.arena_bytes == 256
