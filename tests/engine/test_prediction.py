"""Estimates of launches against figures worked out by hand, and what must hold of any estimate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graphs import POLARIS, classifier, write
from hypothesis import given
from hypothesis import strategies as st

from rekindle._types import DType, Layout
from rekindle.device.architectures import architecture, architectures, target_from
from rekindle.engine.isa.assembly import Counts, Figures
from rekindle.engine.isa.table import Table, document_of, source_digest, table
from rekindle.engine.isa.table import write as keep
from rekindle.engine.kernels import Launch, Packed, Workspace
from rekindle.engine.plan import plan
from rekindle.engine.prediction import card, processor
from rekindle.engine.prediction.estimate import estimate_plan
from rekindle.engine.prediction.processor import Coefficients
from rekindle.engine.prediction.rates import Rates, of_card, of_processor
from rekindle.engine.program import suffix
from rekindle.graph import onnx_io, passes
from rekindle.graph.ir import Graph, Node, Value
from rekindle.runtime.providers.opencl import plan_for

HOT = Counts(130, 100, 125, 500, 4, 1, 0, 0, 600)
FIGURES = Figures("conv_x", 24, 40, 0, 0, 900, 64, 0, 0, HOT)
"""100 multiply-adds in 500 clocks, 600 for a wave alone; eight waves a SIMD."""
RX580 = of_card(architecture("rx580"))
DEFINES = (("TM", "8"), ("XB", "4"))


def launch(flops: int = 0, moved: int = 0, groups: int = 1152, **changes: object) -> Launch:
    output = Workspace("y", 4 * 8 * 64 * groups)  # every sum of every lane is written
    made = Launch("conv_lanes", "conv", DEFINES, (output,), (64 * groups, 1, 1), (64, 1, 1),
                  flops, moved, chosen="conv_lanes")  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def table_of(figures: Figures = FIGURES) -> Table:
    key = (("conv_lanes", DEFINES), "conv", (64, 1, 1))

    named = replace(figures, name=f"conv_{suffix(key[0])}")
    return Table(document_of([(key, launch(), named)], "a compiler"))


def test_a_loop_of_multiply_adds_by_hand() -> None:
    """1152 waves fill 144 SIMDs eight times: 400 of 500 clocks, times 0.85, of 6.174 TFLOP/s."""
    found = card.cost(launch(flops=6_174_144), RX580, table_of())
    assert found.basis == "counted"
    assert found.share == pytest.approx(0.85 * 0.8)
    assert (found.waves, found.filled) == (8, 1)
    assert found.arithmetic_s == pytest.approx(6_174_144 / (36 * 64 * 2 * 1.34e9 * 0.68))
    assert found.limit == "compute"


def test_memory_by_hand() -> None:
    """256 GB/s, of which 86 % can be reached; one wave has a KiB under way each 400 clocks."""
    found = card.cost(launch(moved=1 << 30), RX580, table_of())
    assert found.memory_s == pytest.approx((1 << 30) / (0.86 * 256e9))
    assert (found.limit, found.seconds) == ("memory", found.memory_s)
    alone = card.cost(launch(moved=1 << 20, groups=1), RX580, table_of())
    assert alone.memory_s == pytest.approx((1 << 20) / (1024 / (400 / 1.34e9)))


def test_lanes_without_a_position_do_nothing() -> None:
    """49 positions in a wave of 64, and 12 channels in two panels of eight."""
    y = Value("y", DType.FLOAT32, (1, 12, 7, 7), Layout(4))
    of = launch(args=(y,), global_size=(64, 2, 1))
    assert card.useful_lanes(of) == pytest.approx(49 * 12 / (64 * 2 * 8))
    assert card.useful_lanes(launch()) == 1
    assert card.useful_lanes(launch(defines=(("T", "float"),))) == 1
    tile = launch(defines=(("TM", "4"), ("TN", "2")), args=(Workspace("y", 4 * 64 * 8),),
                  global_size=(64, 1, 1))  # fmt: skip
    assert card.useful_lanes(tile) == 1
    local = replace(tile, kernel="matmul_local", defines=(("TM", "4"),))
    assert card.useful_lanes(local) == pytest.approx(0.5)


def test_a_kernel_without_a_loop_is_gone_through_once() -> None:
    """288 waves are two rounds of 144 SIMDs: each 600 / 2 clocks or 500, whichever is more."""
    once = table_of(replace(FIGURES, looped=False))
    found = card.cost(launch(flops=10, groups=288), RX580, once)
    assert found.arithmetic_s == pytest.approx(2 * 500 / 0.85 / 1.34e9)
    plain = table_of(replace(FIGURES, hot=replace(HOT, multiply_adds=0)))
    assert card.cost(launch(flops=10, groups=288), RX580, plain).seconds == found.seconds


def test_a_kernel_that_nobody_compiled_is_assumed() -> None:
    found = card.cost(launch(flops=1000, kernel="conv_tomorrow"), RX580, table_of())
    assert (found.basis, found.share) == ("assumed", 0.25)
    assert found.arithmetic_s == pytest.approx(1000 / (0.25 * RX580.flops_s))


def test_the_nearest_variant_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for size, vgpr in (("8", 24), ("32", 60)):
        key = (("conv_lanes", (("TM", size), ("XB", "4"))), "conv", (64, 1, 1))
        made = launch(defines=key[0][1])

        rows.append((key, made, replace(FIGURES, name=f"conv_{suffix(key[0])}", vgpr=vgpr)))
    known = Table(document_of(rows, "a compiler"))
    assert len(known) == 2

    def find(*defines: tuple[str, str]) -> tuple[int, str]:
        found = known.find(launch(defines=defines))
        assert found is not None
        return found[0].vgpr, found[1]

    assert find(("TM", "32"), ("XB", "4")) == (60, "counted")
    assert find(("TM", "16"), ("XB", "1")) == (24, "nearest"), "XB is as far; 16 is an octave off"
    assert find(("TM", "64"), ("XB", "4"), ("EPILOGUE(v)", "v + 1")) == (60, "nearest")
    assert known.find(launch(entry="other")) is None
    monkeypatch.setitem(known.sources, "conv_lanes", "another")  # type: ignore[arg-type]
    assert find(("TM", "32"), ("XB", "4")) == (60, "nearest"), "the source has changed"


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    import json

    key = (("conv_lanes", DEFINES), "conv", (64, 1, 1))

    figures = replace(FIGURES, name=f"conv_{suffix(key[0])}", looped=False)
    keep(document_of([(key, launch(), figures)], "clang 19"), tmp_path / "t.json")
    known = Table(json.loads((tmp_path / "t.json").read_text()))
    assert known.compiler == "clang 19"
    assert known.find(launch()) == (figures, "counted")


def test_the_package_knows_the_kernels_of_cards() -> None:
    known = table()
    assert known.compiler.startswith("clang 19")
    assert {"conv_lanes", "matmul_lanes", "attention_lanes", "elementwise"} <= set(known.sources)
    assert len(source_digest("conv_lanes")) == 12
    assert source_digest("conv_lanes") != source_digest("matmul_lanes")


def test_a_processor_by_hand() -> None:
    """100 GFLOP/s and 10 GB/s: 2 us to start, 10 us / 0.5, 4 us / 0.8 and 3 us / 1.5."""
    rates = of_processor("a processor", 100e9, 10e9, 5e-6, 2)
    known = {
        "conv_tiled": Coefficients(2e-6, 2.0, 1.25, 2 / 3, 0.5),
        processor.OTHERS: Coefficients(0.0, 1.0, 1.0, 1.0, 1.0),
    }
    weights = Packed("w", 40_000, lambda: np.zeros(10_000, np.float32))
    made = launch(flops=1_000_000, moved=70_000, kernel="conv_tiled", args=(weights,))
    found = processor.cost(made, rates, known)
    assert found.seconds == pytest.approx(2e-6 + 20e-6 + 5e-6 + 2e-6)
    assert found.basis == "fitted"
    # Three panels read 40 kB from behind 512 kB: twice again, a share of 40 / 552.
    tiled = replace(made, defines=(("P", "6"), ("Q", "1")), global_size=(5, 3, 1))
    again = processor.cost(tiled, rates, known).seconds - found.seconds
    assert again == pytest.approx(0.5 * 2 * 40e3 * 40 / 552 / 10e9)
    other = processor.cost(replace(made, kernel="pool"), rates, known)
    assert (other.seconds, other.basis) == (pytest.approx(10e-6 + 7e-6), "assumed")


AMOUNTS = st.integers(0, 10**13)


@given(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, st.integers(1, 5000))
def test_more_work_is_never_faster(f: int, g: int, b: int, c: int, groups: int) -> None:
    known = table_of()
    less = card.cost(launch(min(f, g), min(b, c), groups), RX580, known)
    more = card.cost(launch(max(f, g), max(b, c), groups), RX580, known)
    assert less.seconds <= more.seconds
    peak = of_processor("p", 1e11, 1e10, 1e-6, 2)
    fitted = processor.coefficients()
    for kernel in ("conv_tiled", "matmul_tiled", "nothing we know"):
        few = launch(min(f, g), min(b, c), groups, kernel=kernel)
        many = launch(max(f, g), max(b, c), groups, kernel=kernel)
        assert (
            processor.cost(few, peak, fitted).seconds <= processor.cost(many, peak, fitted).seconds
        )


@given(AMOUNTS, AMOUNTS, st.integers(1, 5000), st.floats(1, 8), st.floats(1, 8))
def test_a_better_card_is_never_slower(
    flops: int, moved: int, groups: int, clock: float, memory: float
) -> None:
    better = replace(
        RX580,
        flops_s=RX580.flops_s * clock,
        clock_hz=RX580.clock_hz * clock,
        bandwidth_bytes_s=RX580.bandwidth_bytes_s * memory,
    )
    work, known = launch(flops, moved, groups), table_of()
    assert card.cost(work, better, known).seconds <= card.cost(work, RX580, known).seconds


@given(AMOUNTS, st.integers(1, 5000))
def test_nothing_beats_the_roofline(work: int, groups: int) -> None:
    found = card.cost(launch(work, work, groups), RX580, table_of())
    roof = max(work / RX580.flops_s, work / RX580.bandwidth_bytes_s)
    assert found.seconds >= roof * (1 - 1e-9)


@pytest.mark.parametrize("key", architectures())
def test_every_row_has_rates(key: str) -> None:
    rates = of_card(architecture(key))
    for value in (rates.flops_s, rates.bandwidth_bytes_s, rates.clock_hz, rates.launch_s):
        assert 0 < value < float("inf")
    assert rates.simds >= 1
    assert {fact.name for fact in rates.facts} >= {"fp32 peak", "kernel to kernel"}
    assert all(fact.source for fact in rates.facts)


def test_a_plan_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    graph = passes.run(onnx_io.load(write(classifier(), tmp_path)), passes.PORTABLE)
    made = plan_for(graph, POLARIS, {"x": (2, 3, 17, 19)})
    found = estimate_plan(made, RX580)
    assert len(found.launches) == len(list(made.launches()))
    assert [step for step in found.host if step.seconds is None] == []
    parts = (found.kernels_s, found.host_s, found.transfers_s, found.waiting_s)
    assert found.seconds == pytest.approx(sum(parts))
    assert all(launch.seconds >= 8e-6 for launch in found.launches)
    assert found.waiting_s == pytest.approx(43e-6 * (1 + len(found.host)))
    twice = plan_for(graph, POLARIS, {"x": (64, 3, 17, 19)})
    assert estimate_plan(twice, RX580).seconds > found.seconds


def test_the_host_is_counted_by_what_it_moves() -> None:
    """A sum of strings' lengths has no kernel; here NonZero, whose result depends on data."""
    values = {
        "x": Value("x", DType.FLOAT32, (1000,)),
        "y": Value("y", DType.INT64, None),
    }
    node = Node("NonZero", ("x",), ("y",))
    graph = Graph("g", ("x",), ("y",), [node], values, {}, {"": 17})
    found = estimate_plan(plan(graph, POLARIS), RX580)
    assert [(step.operator, step.seconds) for step in found.host] == [("NonZero", None)]
    assert found.waiting_s == pytest.approx(2 * 43e-6)


@pytest.mark.parametrize("key", ["cpu-avx2", "gtx1060-6gb", "rx6600", "hd630"])
def test_other_families_have_estimates(key: str, tmp_path: Path) -> None:
    graph = passes.run(onnx_io.load(write(classifier(), tmp_path)), passes.PORTABLE)
    made = plan_for(graph, target_from(key), {"x": (1, 3, 17, 19)})
    rates: Rates = of_card(architecture(key))
    found = estimate_plan(made, rates)
    assert 0 < found.seconds < 1
    if key == "cpu-avx2":
        assert found.transfers_s == 0
        assert {launch.cost.basis for launch in found.launches} <= {"fitted", "assumed"}
