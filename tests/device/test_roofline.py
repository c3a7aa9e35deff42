"""The roofline against the model worked out by hand, and its bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekindle._errors import UsageError
from rekindle.device import architecture, architectures, roofline

GIB = 1 << 30


def by_hand(peak: float, bandwidth: float, intensity: np.ndarray) -> np.ndarray:
    return np.minimum(peak, intensity * bandwidth)


def test_rx580_over_the_ridge_and_under_it() -> None:
    row = architecture("rx580")
    peak, bandwidth = 36 * 64 * 2 * 1.34e9, 256e9
    intensity = np.array([0.01, 1.0, 13.0, 24.0, 24.2, 100.0, 1e4])
    expected = by_hand(peak, bandwidth, intensity)
    for value, attainable in zip(intensity, expected, strict=True):
        bound = roofline(row, flops=value * 1e6, moved_bytes=1e6)
        assert bound.attainable_flops_s == pytest.approx(attainable)
        assert bound.seconds == pytest.approx(value * 1e6 / attainable)
        assert bound.intensity_flops_byte == pytest.approx(value)
        assert bound.ridge_flops_byte == pytest.approx(peak / bandwidth)
        assert bound.limit == ("compute" if value > peak / bandwidth else "memory")


def test_measured_fractions_lower_both_roofs() -> None:
    row = architecture("rx570")
    chip = row.chip
    assert chip.reachable_source
    bound = roofline(
        row,
        flops=0,
        moved_bytes=193e9,
        bandwidth_fraction=chip.reachable_bandwidth,
    )
    assert bound.seconds == pytest.approx(1.0, rel=0.01), "clpeak read 193 GB/s on an RX 570"
    busy = roofline(row, flops=5134e9, moved_bytes=0, peak_fraction=chip.reachable_fp32)
    assert busy.seconds == pytest.approx(1.0, rel=0.03), "clpeak reached 5134 GFLOP/s"


def test_the_smaller_card_may_have_slower_memory() -> None:
    row = architecture("rx480")
    small = roofline(row, flops=1, moved_bytes=1e9, memory_bytes=4 * GIB)
    assert small.seconds == pytest.approx(1e9 / 224e9)


@given(
    key=st.sampled_from(sorted(architectures())),
    flops=st.floats(1, 1e15),
    moved=st.floats(1, 1e12),
)
def test_never_above_either_roof(key: str, flops: float, moved: float) -> None:
    row = architecture(key)
    bound = roofline(row, flops=flops, moved_bytes=moved)
    assert bound.attainable_flops_s <= row.fp32_flops * (1 + 1e-9)
    assert moved / bound.seconds <= row.bandwidth_bytes_s() * (1 + 1e-9)


def test_only_arithmetic_and_only_traffic() -> None:
    row = architecture("rx580")
    assert roofline(row, flops=1e9, moved_bytes=0).limit == "compute"
    assert roofline(row, flops=1e9, moved_bytes=0).intensity_flops_byte == float("inf")
    idle = roofline(row, flops=0, moved_bytes=1e9)
    assert (idle.limit, idle.attainable_flops_s) == ("memory", 0)


@pytest.mark.parametrize(
    "bad",
    [
        {"flops": -1, "moved_bytes": 1},
        {"flops": 1, "moved_bytes": -1},
        {"flops": 0, "moved_bytes": 0},
        {"flops": 1, "moved_bytes": 1, "peak_fraction": 0},
        {"flops": 1, "moved_bytes": 1, "bandwidth_fraction": 1.1},
        {"flops": float("nan"), "moved_bytes": 1},
        {"flops": 1, "moved_bytes": 1, "memory_bytes": 3},
    ],
)
def test_bad_input(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        roofline(architecture("rx580"), **bad)
