"""Which weights stay and which are streamed: against the rules, and against every choice."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rekindle._errors import MemoryLimitError
from rekindle._types import DType
from rekindle.engine.kernels import Launch, Packed
from rekindle.engine.memory import Lifetime, pack
from rekindle.engine.plan import DeviceStep, Plan
from rekindle.engine.streaming import REGIONS, Residency, keys_of, residency, stages_of
from rekindle.graph.ir import Graph, Node, Value
from tests.engine.graphs import POLARIS, chain
from tests.engine.test_plan import planned

ALIGNMENT = 4
TARGET = replace(POLARIS, alignment_bytes=ALIGNMENT)
Reads = list[list[int]]


def plan_of(reads: Reads, sizes: list[int], arena: int = 10) -> Plan:
    """A plan whose launches read constants of these sizes, by number; `arena` bytes of values."""
    packed = [Packed(f"c{k}", n, lambda n=n: np.zeros(n, np.uint8)) for k, n in enumerate(sizes)]  # type: ignore[misc]
    launches = tuple(
        Launch("k", "e", (), tuple(packed[k] for k in keys), (1,), None) for keys in reads
    )
    node = Node("Relu", ("x",), ("y",))
    graph = Graph("g", ("x",), ("y",), [node], {"x": Value("x", DType.FLOAT32, (1,))}, {}, {})
    used = {k for keys in reads for k in keys}
    return Plan(
        graph,
        TARGET,
        (DeviceStep(node, launches, ()),),
        pack([Lifetime("x", arena, 0, 1)], ALIGNMENT),
        {},
        {f"c{k}": packed[k] for k in sorted(used)},
    )


keys = st.lists(st.integers(0, 5), max_size=3, unique=True)
reads_of_shared = st.lists(keys, min_size=1, max_size=7)
reads_of_own = st.sampled_from([[[0], [1], [2], [3]], [[0, 1], [2], [3, 4], [5]], [[0, 1]]])
six_sizes = st.lists(st.integers(0, 40), min_size=6, max_size=6)


def check(plan: Plan, found: Residency, limit: int) -> None:
    """Everything a residency promises."""
    readers = [keys_of(plan, launch.args) for launch in plan.launches()]
    assert found.weight_bytes + plan.memory.arena_bytes <= limit
    assert found.resident_bytes == sum(max(plan.constants[k].nbytes, 1) for k in found.resident)
    assert found.streamed_bytes == sum(
        max(plan.constants[k].nbytes, 1) for stage in found.stages for k in stage.offsets
    )
    for number, stage in enumerate(found.stages):
        assert stage.region == number % REGIONS
        assert stage.first <= stage.last
        ends = 0
        for key, offset in stage.offsets.items():
            assert key not in found.resident
            assert offset % ALIGNMENT == 0
            assert offset >= ends
            ends = offset + plan.constants[key].nbytes
        assert ends <= found.region_bytes
    for stage, following in itertools.pairwise(found.stages):
        assert stage.last < following.first
    for number, keys in enumerate(readers):
        streamed = set(keys) - found.resident
        holders = [s for s in found.stages if s.first <= number <= s.last]
        assert len(holders) <= 1
        assert not streamed or streamed <= holders[0].offsets.keys()


@given(reads_of_shared, six_sizes, st.integers(0, 300))
def test_every_launch_finds_its_constants_within_the_limit(
    reads: Reads, sizes: list[int], limit: int
) -> None:
    plan = plan_of(reads, sizes)
    try:
        found = residency(plan, limit)
    except MemoryLimitError as error:
        least = int(error.message.split("at least ")[1].split()[0].replace(",", ""))
        assert least > limit
        check(plan, residency(plan, least), least)  # the figure it names is true
        return
    check(plan, found, limit)
    assert found == residency(plan, limit)
    if plan.constant_bytes + len(plan.constants) + plan.memory.arena_bytes <= limit:
        assert found.stages == ()
        assert found.resident == plan.constants.keys()


def fewest_streamed(plan: Plan, limit: int) -> int | None:
    """Over every choice of residents and every size of a region; None: it cannot run."""
    sizes = {key: max(c.nbytes, 1) for key, c in plan.constants.items()}
    readers = [keys_of(plan, launch.args) for launch in plan.launches()]
    best = None
    for count in range(len(sizes) + 1):
        for chosen in itertools.combinations(sizes, count):
            resident = frozenset(chosen)
            needs = [
                sum(-(-sizes[k] // ALIGNMENT) * ALIGNMENT for k in keys if k not in resident)
                for keys in readers
            ]
            left = limit - plan.memory.arena_bytes - sum(sizes[k] for k in chosen)
            room = left // REGIONS // ALIGNMENT * ALIGNMENT
            if (max(needs) > room and max(needs) > 0) or left < 0:
                continue
            stages = stages_of(readers, resident, sizes, room, ALIGNMENT)
            sent = sum(stage.nbytes for stage in stages)
            best = sent if best is None else min(best, sent)
    return best


@settings(max_examples=50)
@given(reads_of_own, six_sizes, st.integers(10, 150))
def test_it_refuses_only_what_cannot_run(reads: Reads, sizes: list[int], limit: int) -> None:
    plan = plan_of(reads, sizes)
    least = fewest_streamed(plan, limit)
    if least is None:
        with pytest.raises(MemoryLimitError):
            residency(plan, limit)
    else:
        assert least <= residency(plan, limit).streamed_bytes


def test_little_more_is_streamed_than_the_least() -> None:
    """On random plans with one reader for each constant, as nearly all constants have."""
    rng = np.random.default_rng(0)
    ratios = []
    while len(ratios) < 100:
        sizes = [int(n) for n in rng.integers(8, 400, 6)]
        plan = plan_of([[k] for k in range(6)], sizes)
        limit = int(plan.memory.arena_bytes + rng.uniform(0.4, 0.95) * sum(sizes))
        if least := fewest_streamed(plan, limit):
            ratios.append(residency(plan, limit).streamed_bytes / least)
    assert np.mean(ratios) <= 1.005
    assert max(ratios) <= 1.13


def test_what_is_read_often_stays() -> None:
    plan = plan_of([[0], [1], [0], [2], [0], [3]], [40, 40, 44, 40])
    found = residency(plan, plan.memory.arena_bytes + 132)
    assert found.resident == {"c0"}
    assert [list(stage.offsets) for stage in found.stages] == [["c1"], ["c2"], ["c3"]]
    assert found.streamed_bytes == 124
    assert (found.region_bytes, found.staging_bytes) == (44, 88)
    assert [(s.first, s.last, s.region) for s in found.stages] == [(1, 1, 0), (3, 3, 1), (5, 5, 0)]


def test_small_constants_share_a_stage() -> None:
    plan = plan_of([[0, 1], [2], [2, 3], [4], [5]], [36, 4, 10, 10, 40, 40])
    found = residency(plan, plan.memory.arena_bytes + 80)
    assert [dict(stage.offsets) for stage in found.stages] == [
        {"c0": 0, "c1": 36}, {"c2": 0, "c3": 12}, {"c4": 0}, {"c5": 0}
    ]  # fmt: skip


def test_a_plan_of_a_network_streams_what_does_not_fit() -> None:
    made = planned(chain(layers=9), POLARIS, x=(2, 64))
    whole = residency(made, made.device_bytes)
    assert whole == Residency(frozenset(made.constants), made.constant_bytes)
    for share in (0.9, 0.5, 0.3):
        limit = int(made.memory.arena_bytes + share * made.constant_bytes)
        found = residency(made, limit)
        assert found.weight_bytes <= limit - made.memory.arena_bytes
        assert 0 < found.streamed_bytes < made.constant_bytes


@pytest.mark.parametrize(("largest", "says"), [(35, "one buffer of 40"), (9, "one buffer of 40")])
def test_a_buffer_larger_than_the_device_allows_is_refused(largest: int, says: str) -> None:
    plan = plan_of([[0]], [40])
    with pytest.raises(MemoryLimitError, match=says):
        residency(replace(plan, target=replace(TARGET, max_alloc_bytes=largest)), 1 << 30)
