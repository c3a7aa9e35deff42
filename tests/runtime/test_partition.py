"""The partition is the cheapest of all: against brute force, and on cases done by hand."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekindle.runtime.hybrid.min_cut import SINK, SOURCE, Network
from rekindle.runtime.hybrid.partition import Problem, Traffic, partition, total_ns

COSTS = st.integers(0, 50)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Graphs of up to 12 nodes: any edges forward, some nodes that only one side can run."""
    count = draw(st.integers(0, 12))
    device: list[int | None] = []
    cpu: list[int | None] = []
    for _ in range(count):
        only = draw(st.sampled_from(["both", "both", "both", "device", "cpu"]))
        device.append(None if only == "cpu" else draw(COSTS))
        cpu.append(None if only == "device" else draw(COSTS))
    values = []
    for producer in range(-1, count):
        later = range(producer + 1, count)
        consumers = draw(st.lists(st.sampled_from(later), max_size=4)) if later else []
        values.append(
            Traffic(
                None if producer < 0 else producer,
                tuple(consumers),
                draw(st.booleans()),
                draw(COSTS),
                draw(COSTS),
            )
        )
    return Problem(device, cpu, values)


def counted(problem: Problem, on_device: tuple[bool, ...]) -> float:
    """The model once more, from its definition: nodes, and each value at most once each way."""
    total = 0.0
    for costs, side in ((problem.device_ns, True), (problem.cpu_ns, False)):
        for cost, chosen in zip(costs, on_device, strict=True):
            if chosen is side:
                total += float("inf") if cost is None else cost
    for value in problem.values:
        home = value.producer is not None and on_device[value.producer]
        wanted = {on_device[c] for c in value.consumers} | ({False} if value.returned else set())
        if home and False in wanted:
            total += value.download_ns
        if not home and True in wanted:
            total += value.upload_ns
    return total


@given(problems())
def test_no_other_way_is_cheaper(problem: Problem) -> None:
    chosen = partition(problem)
    ways = list(product([False, True], repeat=len(problem.device_ns)))
    best = min(counted(problem, way) for way in ways)
    assert counted(problem, chosen) == best
    assert total_ns(problem, chosen) == best
    most = max(sum(way) for way in ways if counted(problem, way) == best)
    assert sum(chosen) == most


@given(problems())
def test_the_estimate_is_the_definition(problem: Problem) -> None:
    for way in list(product([False, True], repeat=len(problem.device_ns)))[:64]:
        total = total_ns(problem, way)
        assert (float("inf") if total is None else total) == counted(problem, way)


def chain(device: list[int | None], cpu: list[int | None], move: int) -> Problem:
    """Fed node after node, the last one returned; every transfer costs the same."""
    last = len(device) - 1
    values = [Traffic(None, (0,), False, move, move)]
    values += [
        Traffic(k, (k + 1,) if k < last else (), k == last, move, move) for k in range(last + 1)
    ]
    return Problem(device, cpu, values)


@pytest.mark.parametrize(
    ("move", "expected"),
    [
        (1, (True, False, True)),  # moving is cheap: only what the device cannot do leaves it
        (40, (False, False, True)),  # the first node's gain of 70 does not pay for two more moves
        (60, (False, False, False)),
    ],
)
def test_an_unsupported_node_in_the_middle(move: int, expected: tuple[bool, ...]) -> None:
    assert partition(chain([10, None, 10], [80, 5, 110], move)) == expected


def test_a_value_that_many_read_moves_once() -> None:
    # Uploading once pays for three readers that gain 10 each; three times it would not.
    problem = Problem([5, 5, 5], [15, 15, 15], [Traffic(None, (0, 1, 2), False, 25, 0)])
    assert partition(problem) == (True, True, True)
    assert total_ns(problem, (True, True, True)) == 40


def test_equal_cost_goes_to_the_device() -> None:
    assert partition(Problem([7], [7], [])) == (True,)


def test_a_node_that_runs_nowhere_is_an_error() -> None:
    with pytest.raises(ValueError, match="neither side"):
        partition(Problem([None], [None], []))


def test_flow_goes_back_on_itself_where_that_is_better() -> None:
    # The textbook network in which the first shortest path must be undone.
    network = Network()
    a, b = network.vertex(), network.vertex()
    for tail, head, capacity in [(SOURCE, a, 3), (SOURCE, b, 2), (a, b, 2), (a, SINK, 2),
                                 (b, SINK, 3)]:  # fmt: skip
        network.arc(tail, head, capacity)
    flow, side = network.cut()
    assert flow == 5
    assert side[SOURCE]
    assert not side[SINK]
    with pytest.raises(ValueError, match="-1"):
        network.arc(a, b, -1)
