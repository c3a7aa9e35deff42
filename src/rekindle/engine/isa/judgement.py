"""What a kernel promises of its instructions on Polaris, and what it can reach there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rekindle._types import Target
from rekindle.engine.isa.assembly import Figures
from rekindle.engine.kernels import Isa, Launch

_WAVES = ((32, 8), (36, 7), (40, 6), (48, 5), (64, 4), (84, 3), (128, 2), (256, 1))
"""Vector registers a lane may have for so many waves on a SIMD (Mesa ACO; LLVM counts to 10)."""
_LDS_PER_UNIT = 65536
_SIMDS = 4
_MOST_LDS = 32768
_MOST_WORK_GROUP = 256
_PLAIN = Isa()
DERATE = 0.85
"""What instruction counts leave out (caches, issue): an assumption, not a measurement. The one
published figure that can be compared, a kernel through local memory at 65 %, had 0.7."""


def waves(figures: Figures, work_group: int) -> float:
    """Waves that a SIMD can have of this kernel, by vector registers and local memory."""
    by_registers = next((n for limit, n in _WAVES if figures.vgpr <= limit), 1)
    per_group = max(1, work_group // 64)
    by_lds = 8.0
    if figures.lds_bytes:
        by_lds = _LDS_PER_UNIT // figures.lds_bytes * per_group / _SIMDS
    return max(min(float(by_registers), by_lds), per_group / _SIMDS)


def check(figures: Figures, launch: Launch, promise: Isa) -> Iterator[tuple[str, str]]:
    """What breaks: the name of the rule, and the figures. What is not promised is not checked."""
    group = work_group(launch)
    reached, least = waves(figures, group), promise.share(launch.defines)
    few_waves = (
        f"{figures.vgpr} vector registers and {figures.lds_bytes} bytes of local memory leave "
        f"{reached:g} waves of {promise.waves}"
    )
    share = useful(figures, launch, promise) / max(figures.hot.valu, 1)
    few_adds = f"{share:.1%} of the vector instructions are multiply-adds, not {least:.0%}"
    rules = (
        ("scratch", figures.scratch_bytes == 0, f"{figures.scratch_bytes} bytes of scratch"),
        ("fma", figures.fma == 0, f"{figures.fma} v_fma_f32 in loops"),
        ("multiplies", figures.multiplies == 0, f"{figures.multiplies} v_mul_lo/hi in loops"),
        ("waves", reached >= promise.waves, few_waves),
        ("lds", figures.lds_bytes <= _MOST_LDS, f"{figures.lds_bytes} bytes of local memory"),
        ("work-group", group <= _MOST_WORK_GROUP, f"{group} work-items in a group"),
        ("share", share >= least, few_adds),
    )
    for rule, kept, words in rules:
        if not kept and rule not in promise.unkept:
            yield rule, words


def useful(figures: Figures, launch: Launch, promise: Isa) -> int:
    """Multiply-adds of the plain sum that one trip of the hot loop does, or stands for."""
    if promise.direct is None:
        return figures.hot.multiply_adds
    return promise.direct(dict(launch.defines))


def work_group(launch: Launch) -> int:
    size = 1
    for axis in launch.local_size or (64,):
        size *= axis
    return size


@dataclass(frozen=True)
class Reach:
    """How far a launch gets on a card: counted instructions, and the grid's fit."""

    share: float
    """Of the card's multiply-adds, what the hot loop is worth; times DERATE. 0: it has none."""
    waves: float
    """On each SIMD, at a time."""
    filled: float
    """Of the SIMDs in all rounds of waves; 1 where there are so many that the end hardly counts."""
    clocks: float
    """Of one SIMD for its share of the grid, each wave going through the counted code once."""


def reach(figures: Figures, launch: Launch, simds: int, promise: Isa = _PLAIN) -> Reach:
    """The hot loop's scarcest resource: vector and scalar issue, local memory at 128 bytes a
    clock, first-level cache at 64, or latency that too few waves hide. An estimate.
    """
    hot, group = figures.hot, work_group(launch)
    groups = 1
    for size, local in zip(launch.global_size, launch.local_size or (64, 1, 1), strict=False):
        groups *= -(-size // local)
    total = groups * max(1, -(-group // 64))
    present = min(waves(figures, group), max(1.0, total / simds))
    clocks = max(
        hot.valu_clocks,
        2 * hot.local_bytes,
        4 * hot.vector_bytes,
        4 * hot.salu,
        hot.one_wave_clocks / present,
        1,
    )
    rounds = -(-total // simds)
    filled = total / (rounds * simds) if total < 8 * simds else 1.0
    share = DERATE * filled * 4 * useful(figures, launch, promise) / clocks
    return Reach(share, present, filled, rounds * clocks / DERATE)


def predict(figures: Figures, launch: Launch, target: Target, promise: Isa = _PLAIN) -> float:
    """Share of the card's multiply-adds that the launch's hot loop is worth: an estimate."""
    return reach(figures, launch, target.compute_units * _SIMDS, promise).share
