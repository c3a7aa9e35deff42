"""One launch on a graphics card: counted instructions against the grid, bytes against memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from rekindle.engine.isa.assembly import Figures
from rekindle.engine.isa.judgement import Reach, reach
from rekindle.engine.isa.table import Table
from rekindle.engine.kernels import REGISTRY, Launch, Packed, Workspace
from rekindle.engine.prediction.rates import Rates
from rekindle.graph.ir import Value

Basis = Literal["counted", "nearest", "fitted", "assumed"]
_LOAD_BYTES = 16
"""A lane has one load of four floats under way. Assumed; several would saturate memory sooner."""
_UNKNOWN_SHARE = 0.25
"""Of peak, for a kernel that was never compiled. Assumed."""
_COLUMNS = {"matmul_local": 4, "conv_winograd_lanes": 4}
"""Sums of a lane are TM x TN of its defines, where TN is not one of them."""


@dataclass(frozen=True)
class Cost:
    """Where the time of one launch goes, in seconds. `seconds` is without the launch itself."""

    arithmetic_s: float
    memory_s: float
    basis: Basis
    """Of the arithmetic: this variant's own instructions, those of another one, or none at all."""
    share: float = 0.0
    """Of peak that the arithmetic runs at, before memory is looked at; 0: it has none."""
    waves: float = 0.0
    """On each SIMD, at a time."""
    filled: float = 1.0
    """Of the SIMDs and lanes, what has work in all rounds."""
    overlap: bool = True
    """Whether arithmetic goes on while memory is waited for."""

    @property
    def seconds(self) -> float:
        both = self.arithmetic_s, self.memory_s
        return max(both) if self.overlap else sum(both)

    @property
    def limit(self) -> Literal["compute", "memory"]:
        return "compute" if self.arithmetic_s >= self.memory_s else "memory"


def cost(launch: Launch, rates: Rates, table: Table) -> Cost:
    """Arithmetic at the share of peak that its instructions allow, or memory, whichever is longer.

    A loop of multiply-adds is counted by what the launch has to multiply; any other kernel by its
    instructions, gone through once by each wave, which is the least it can take.
    """
    found = table.find(launch)
    if found is None:
        share = _UNKNOWN_SHARE
        memory_s = launch.bytes_moved / rates.bandwidth_bytes_s
        return Cost(launch.flops / (rates.flops_s * share), memory_s, "assumed", share)
    figures, known = found
    basis: Basis = known if rates.gfx803 else "nearest"
    got = reach(figures, launch, rates.simds, REGISTRY.get(launch.chosen).isa)
    if figures.looped and got.share > 0:
        lanes = useful_lanes(launch)
        share = got.share * lanes
        arithmetic_s = (launch.flops + launch.flops_again) / (rates.flops_s * share)
        return Cost(arithmetic_s, _memory_s(launch, figures, got, rates), basis, share, got.waves,
                    got.filled * lanes)  # fmt: skip
    arithmetic_s = got.clocks / rates.clock_hz
    share = min(1.0, launch.flops / (rates.flops_s * arithmetic_s))
    memory_s = _memory_s(launch, figures, got, rates)
    return Cost(arithmetic_s, memory_s, basis, share, got.waves, got.filled)


def useful_lanes(launch: Launch) -> float:
    """Of the sums that all lanes make, those that are written: 49 positions fill 77 % of a wave."""
    defines = dict(launch.defines)
    if not defines.get("TM", "").isdecimal():
        return 1.0
    columns = int(defines.get("TN", _COLUMNS.get(launch.kernel, 1)))
    made = math.prod(launch.global_size) * int(defines["TM"]) * columns
    return min(1.0, _elements(launch.args[launch.writes[-1]]) / made) or 1.0


def _elements(arg: object) -> float:
    """Of a written argument, blocks of channels filled up."""
    if isinstance(arg, Value):
        return math.prod(arg.layout.physical_shape(arg.static_shape))
    return arg.nbytes / 4 if isinstance(arg, Workspace | Packed) else 0.0


def _memory_s(launch: Launch, figures: Figures, got: Reach, rates: Rates) -> float:
    """Bytes at the reachable bandwidth; at less where too few waves have loads under way."""
    groups = math.prod(
        -(-size // local)
        for size, local in zip(launch.global_size, launch.local_size or (64, 1, 1), strict=False)
    )
    present = min(groups * max(1, -(-figures.work_group // 64)), got.waves * rates.simds)
    under_way = present * 64 * _LOAD_BYTES / rates.latency_s
    return launch.bytes_moved / min(rates.bandwidth_bytes_s, under_way)
