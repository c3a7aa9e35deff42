"""How work is spread over a GPU: clocks of a loop, and sums of convolutions cut into slices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rekindle._types import Target
from rekindle.engine.kernels import Launch, Packed, Workspace
from rekindle.engine.kernels._conv import Problem
from rekindle.engine.kernels._epilogue import Epilogue
from rekindle.engine.kernels._packing import padded_vector
from rekindle.engine.kernels._weights import padded_scales

BLOCK = 4
WAVE = 64
SIMDS = 4
LAUNCH_CLOCKS = 11000
"""From one kernel to the next: some 8 us at 1.34 GHz. Assumed."""
BYTES_PER_CLOCK = 160
"""Of the whole card, 220 GB/s at 1.34 GHz."""
MOST_SLICES = 32
PANELS = (32, 16, 8, 4)
"""Output channels that a lane of conv_lanes can have."""
_WAVES = {32: 4, 16: 8, 8: 8, 4: 8}
"""Waves on a SIMD by those."""
_ADDRESS, _TAP, _ONCE = 2, 24, 120
"""Vector instructions besides multiply-adds: of each load, of each tap, of a lane."""
_FLOAT = 4


@dataclass(frozen=True)
class Cut:
    """A way to spread a plain sum: output channels of a lane; slices, and input blocks in each."""

    clocks: float
    """What it takes, as far as can be told."""
    panel: int
    slices: int
    blocks: int


@dataclass(frozen=True)
class Loop:
    """What one wave does: `trips` of `valu` vector instructions, and `once` of them besides."""

    trips: int
    valu: int
    once: int
    waves: int
    """That fit on a SIMD, by their registers."""
    latency: int = 450
    """Clocks that a trip waits for memory, hidden only by other waves of the SIMD. Assumed."""


def clocks(loop: Loop, count: int, target: Target) -> float:
    """Clocks that `count` waves take on the target: an estimate, to compare tiles by."""
    rounds = -(-count // (SIMDS * target.compute_units))
    together = min(rounds, loop.waves)
    trip = max(4 * loop.valu, (4 * loop.valu + loop.latency) / together)
    return rounds * (loop.trips * trip + 4 * loop.once)


def sum_clocks(nbytes: int, slices: int) -> float:
    """What adding slices of `nbytes` in all costs: a launch, and memory written and read again."""
    return (slices > 1) * (LAUNCH_CLOCKS + 2 * nbytes / BYTES_PER_CLOCK)


def slicings(blocks: int) -> Iterator[tuple[int, int]]:
    """Ways to cut `blocks` of channels: how many slices, how many blocks in each but the last."""
    seen = 0
    for wanted in range(1, min(MOST_SLICES, blocks) + 1):
        each = -(-blocks // wanted)
        if each != seen:
            yield -(-blocks // each), each
        seen = each


def plain_cuts(problem: Problem, x_block: int, target: Target) -> list[Cut]:
    """How conv_lanes can do `problem`, the cut with the fewest clocks first."""
    taps, blocks = math.prod(problem.window.kernel), -(-problem.c_group // x_block)
    waves = -(-problem.n * problem.plane // WAVE)
    narrow = x_block if problem.x.dtype.itemsize < _FLOAT else 0  # a conversion each
    cuts = []
    for panel in PANELS:
        if problem.group > 1 and problem.m_group % panel:
            continue
        for slices, each in slicings(blocks):
            once = _ONCE + taps * _TAP + 3 * panel
            loop = Loop(taps * each, x_block * panel + _ADDRESS + narrow, once, _WAVES[panel])
            count = waves * -(-problem.m // panel) * slices
            cost = clocks(loop, count, target) + sum_clocks(
                workspace(problem, slices).nbytes, slices
            )
            cuts.append(Cut(cost, panel, slices, each))
    return sorted(cuts, key=lambda cut: cut.clocks)


def vectors(problem: Problem) -> tuple[Packed, ...]:
    """Bias and, where the weights have them, scales: whole blocks of channels."""
    count = -(-problem.m // BLOCK) * BLOCK
    bias = padded_vector(problem.bias, problem.bias_array, count)
    if not problem.weights.scales:
        return (bias,)
    return bias, padded_scales(problem.weights, problem.m, count)


def workspace(problem: Problem, slices: int) -> Workspace:
    blocks = -(-problem.m // BLOCK)
    nbytes = _FLOAT * slices * problem.n * blocks * BLOCK * problem.plane
    return Workspace(f"{problem.y.name}#slices", nbytes)


def sum_launch(problem: Problem, slices: Workspace, count: int, end: Epilogue) -> Launch:
    """Adds `count` slices to `problem.y`, with bias and epilogue."""
    blocks = -(-problem.m // BLOCK)
    outputs = problem.n * problem.m * problem.plane
    return Launch(
        kernel="conv_sum",
        entry="sum",
        defines=(
            ("SUMS", "1"),
            ("SCALES", str(problem.weights.scales)),
            problem.defines[1],
            *end.defines,
        ),
        args=(
            slices,
            *vectors(problem),
            *map(np.int32, (count, problem.m, problem.plane)),
            *end.args,
            problem.y,
        ),
        global_size=(-(-problem.plane // WAVE) * WAVE, blocks, problem.n),
        local_size=(WAVE, 1, 1),
        flops=outputs * (count + end.flops),
        bytes_moved=slices.nbytes + problem.y.nbytes + end.nbytes,
    )
