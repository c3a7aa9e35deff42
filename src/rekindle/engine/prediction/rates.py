"""What an estimate takes for granted of a device: each figure with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rekindle._types import Family
from rekindle.device.architectures import Architecture

Origin = Literal["published", "measured", "counted", "fitted", "assumed"]
_REACHABLE_BANDWIDTH = 0.86
_LAUNCH_S = 8e-6
_ROUND_TRIP_S = 43e-6
_LINK_BYTES_S = 15e9
_LATENCY_CLOCKS = 400
_HOST_FLOPS_S = 5e9
_HOST_BYTES_S = 5e9
_CLPEAK = "clpeak on an RX 570"


@dataclass(frozen=True)
class Fact:
    """One figure, in SI units, and how far it can be trusted."""

    name: str
    value: float
    unit: str
    origin: Origin
    source: str


@dataclass(frozen=True)
class Rates:
    """Of one device. `facts` is all of it in words, for whoever reads the estimate."""

    name: str
    family: Family
    flops_s: float
    """Peak of fp32 arithmetic; a multiply-add is two."""
    bandwidth_bytes_s: float
    """Of device memory, as far as it can be reached."""
    clock_hz: float
    simds: int
    """What runs one wave at a time: four to a compute unit of GCN."""
    launch_s: float
    """From one dependent kernel to the next."""
    round_trip_s: float
    """What it takes until the host, waiting, has seen the device finish."""
    link_bytes_s: float
    """Between host and device; infinite where they share their memory."""
    latency_s: float
    """Of a load from device memory with nothing else under way."""
    gfx803: bool = True
    """Whether it runs the code whose instructions were counted; others are taken to do as well."""
    host_flops_s: float = _HOST_FLOPS_S
    host_bytes_s: float = _HOST_BYTES_S
    power_w: float | None = None
    facts: tuple[Fact, ...] = field(default=(), compare=False)


def of_card(row: Architecture, memory_bytes: int | None = None) -> Rates:
    """From a row of the architecture table, and what clpeak measured on a card of the family."""
    chip, cpu = row.chip, row.family == "cpu"
    reachable = chip.reachable_bandwidth or _REACHABLE_BANDWIDTH
    bandwidth = row.bandwidth_bytes_s(memory_bytes) * reachable
    launch_s, round_trip_s = (15e-6, 15e-6) if cpu else (_LAUNCH_S, _ROUND_TRIP_S)
    link = float("inf") if cpu else _LINK_BYTES_S
    kin = "published" if chip.reachable_bandwidth else "assumed"
    facts = [
        Fact("fp32 peak", row.fp32_flops, "FLOP/s", "published", row.source),
        Fact("memory bandwidth", row.bandwidth_bytes_s(memory_bytes), "B/s", "published",
             row.source),
        Fact("reachable bandwidth", bandwidth, "B/s", kin,  # type: ignore[arg-type]
             chip.reachable_source or f"{reachable:.0%} of the peak, as {_CLPEAK}"),
        Fact("kernel to kernel", launch_s, "s", "assumed", "one in-order queue that never waits"),
    ]  # fmt: skip
    if not cpu:
        facts += [
            Fact("waiting for the device", round_trip_s, "s", "published", _CLPEAK),
            Fact("host to device", link, "B/s", "published", f"{_CLPEAK}, PCIe 3.0 x16"),
            Fact("latency of memory", _LATENCY_CLOCKS / row.clock_hz, "s", "assumed",
                 f"{_LATENCY_CLOCKS} clocks"),
        ]  # fmt: skip
    if row.board_power_w:
        facts.append(Fact("board power", row.board_power_w, "W", "published",
                          "drawn all the time: at most"))  # fmt: skip
    return Rates(
        row.name,
        row.family,
        row.fp32_flops,
        bandwidth,
        float(row.clock_hz),
        max(1, row.compute_units * chip.lanes // 16),
        launch_s,
        round_trip_s,
        link,
        _LATENCY_CLOCKS / row.clock_hz,
        "gfx803" in chip.gfx,
        power_w=row.board_power_w,
        facts=tuple(facts),
    )


def of_processor(
    name: str, flops_s: float, bandwidth_bytes_s: float, launch_s: float, cores: int
) -> Rates:
    """From peaks that `engine.peaks` measured on this machine's processor."""
    source = "measured on this machine by rekindle"
    return Rates(
        name,
        "cpu",
        flops_s,
        bandwidth_bytes_s,
        flops_s / (32 * cores),
        cores,
        launch_s,
        launch_s,
        float("inf"),
        100e-9,
        facts=(
            Fact("fp32 peak", flops_s, "FLOP/s", "measured", source),
            Fact("memory bandwidth", bandwidth_bytes_s, "B/s", "measured", source),
            Fact("kernel to kernel", launch_s, "s", "measured", source),
        ),
    )
