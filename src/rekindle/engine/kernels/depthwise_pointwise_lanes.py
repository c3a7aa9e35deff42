"""`chain` on GPUs: a depthwise `conv` and the 1 x 1 `conv` behind it; blocked in, blocked out.

What lies between is neither stored nor rounded, and a launch is saved. In return every panel of
output channels makes the depthwise sums anew, so that many panels cost more than they save: it
takes a chain where that counts fewer clocks than the two kernels one after the other. Where the
outputs fit one panel (64 channels) it does little more work than they do; with more, mostly small
images win, of which the waves of one panel do not fill a card.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rekindle._types import Target
from rekindle.engine.kernels import Context, Floor, Isa, Kernel, Launch, Variant, register
from rekindle.engine.kernels import _conv as conv
from rekindle.engine.kernels._chain import is_plain, pair
from rekindle.engine.kernels._epilogue import NOTHING, epilogue, middle
from rekindle.engine.kernels._packing import conv_panels, depthwise_taps, padded_vector, zeros
from rekindle.engine.kernels._slices import (
    BLOCK,
    BYTES_PER_CLOCK,
    LAUNCH_CLOCKS,
    MOST_SLICES,
    SIMDS,
    WAVE,
    Cut,
    Loop,
    clocks,
    plain_cuts,
    slicings,
    sum_clocks,
    sum_launch,
    vectors,
    workspace,
)
from rekindle.engine.kernels._weights import FLOAT, HALF, SCALAR
from rekindle.graph.lowering import LogicalCall

_PANELS = {64: 2, 32: 2, 16: 3, 8: 4, 4: 4}
"""Output channels that a lane can have, and waves on a SIMD by those."""
_MOST_TAPS = 9
"""In registers at a time; with more, each load would be waited for by itself."""
_TAP, _BLOCK_ONCE, _ONCE = 8, 16, 200
"""Vector instructions besides the product's: of a tap, of a block of channels, of a lane."""
_LATENCY = 1200
"""Clocks that a block waits, mostly for scalar loads one after the other. By counted code."""
_FEW = "few outputs share the addresses of the taps"
_ALONE_TAP, _ALONE_ONCE, _ALONE_WAVES = 30, 75, 6
"""The same of a tap and a lane of depthwise_lanes, and its waves."""


@dataclass(frozen=True)
class _Pair:
    """Both convolutions in numbers."""

    first: conv.Problem
    second: conv.Problem
    first_call: LogicalCall
    second_call: LogicalCall

    @property
    def taps(self) -> int:
        return math.prod(self.first.window.kernel)

    @property
    def nbytes(self) -> int:
        """All but what would lie between."""
        first, second = self.first, self.second
        return first.x.nbytes + first.w.nbytes + second.w.nbytes + second.y.nbytes


def _pair(call: LogicalCall, context: Context) -> _Pair | None:
    """The call in numbers; None where the kernel does not do it."""
    parts = pair(call)
    if context.target.family == "cpu" or parts is None:
        return None
    first, second = parts
    if not (conv.is_depthwise(first) and is_plain(second)):
        return None
    if not all(conv.is_constant_planar(part, context) for part in parts):
        return None
    if (conv.blocks(first)[0], second.output.layout.block) != (BLOCK, BLOCK):
        return None
    done = conv.problem(first, context), conv.problem(second, context, decodes=SCALAR)
    found = _Pair(*done, first, second)
    fits = found.taps <= _MOST_TAPS and math.prod(found.first.window.size) * WAVE < 2**31
    return found if fits else None


def _cuts(of: _Pair, target: Target) -> list[Cut]:
    """Ways to spread the work, the one with the fewest clocks first."""
    blocks, waves = -(-of.first.c // BLOCK), -(-of.second.n * of.second.plane // WAVE)
    each_block = _TAP * of.taps + _BLOCK_ONCE + BLOCK * middle(of.first_call, BLOCK).flops
    cuts = []
    for panel, together in _PANELS.items():
        if panel >= 2 * of.second.m and panel > BLOCK:
            continue
        for slices, each in slicings(blocks):
            once = _ONCE + 3 * panel
            loop = Loop(each, BLOCK * panel + each_block, once, together, _LATENCY)
            work = _clocks(loop, waves * -(-of.second.m // panel) * slices, target)
            bytes_moved = workspace(of.second, slices).nbytes
            cost = max(work, of.nbytes / BYTES_PER_CLOCK) + sum_clocks(bytes_moved, slices)
            cuts.append(Cut(cost, panel, slices, each))
    return sorted(cuts, key=lambda cut: cut.clocks)


def _clocks(loop: Loop, count: int, target: Target) -> float:
    """`clocks`, but that a SIMD has as many waves as there are on average: latency counts more."""
    simds = SIMDS * target.compute_units
    together = max(1.0, min(count / simds, loop.waves))
    trip = max(4 * loop.valu, (4 * loop.valu + loop.latency) / together)
    return -(-count // simds) * (loop.trips * trip + 4 * loop.once)


def _apart(of: _Pair, target: Target) -> float:
    """Clocks of the two kernels one after the other, with the launch between them."""
    first, second = of.first, of.second
    waves = first.n * -(-first.c // BLOCK) * -(-first.plane // WAVE)
    loop = Loop(1, _ALONE_TAP * of.taps, _ALONE_ONCE, _ALONE_WAVES)
    cut = plain_cuts(second, BLOCK, target)[0]
    stored = workspace(second, cut.slices).nbytes if cut.slices > 1 else second.y.nbytes
    return (
        max(clocks(loop, waves, target), first.nbytes / BYTES_PER_CLOCK)
        + LAUNCH_CLOCKS
        + max(cut.clocks, (second.x.nbytes + second.w.nbytes + stored) / BYTES_PER_CLOCK)
    )


def _score(call: LogicalCall, context: Context) -> float:
    of = _pair(call, context)
    if of is None or of.second.is_empty:
        return 0
    return 20.0 * (_cuts(of, context.target)[0].clocks < _apart(of, context.target))


def _variant(cut: Cut) -> Variant:
    return ("TM", cut.panel), ("SLICES", cut.slices)


def _variants(call: LogicalCall, context: Context) -> Sequence[Variant]:
    of = _pair(call, context)
    return [_variant(cut) for cut in _cuts(of, context.target)] if of else []


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    of = _pair(call, context)
    assert of is not None
    first, second, win = of.first, of.second, of.first.window
    cuts = _cuts(of, context.target)
    cut = next((c for c in cuts if _variant(c) == context.variant), cuts[0])
    sliced, blocks = cut.slices > 1, -(-first.c // BLOCK)
    panels = -(-second.m // cut.panel)
    inner, end = middle(of.first_call, BLOCK), epilogue(of.second_call, 3, BLOCK)
    slices = workspace(second, cut.slices)
    sizes = (second.n, first.c, second.m, cut.blocks, *win.size, *win.out)
    window = (*win.strides, *win.pads, *win.dilations)
    sums = Launch(
        kernel="depthwise_pointwise_lanes",
        entry="pair",
        defines=(
            ("KH", str(win.kernel[0])),
            ("KW", str(win.kernel[1])),
            ("TM", str(cut.panel)),
            ("RAGGED", str(int(first.c % BLOCK > 0))),
            ("SLICED", str(int(sliced))),
            ("WT", second.weights.storage),
            ("SCALES", "0" if sliced else str(second.weights.scales)),
            first.defines[0],
            ("YT", FLOAT) if sliced else second.defines[1],
            *inner.defines,
            *(NOTHING if sliced else end.defines),
        ),
        args=(
            first.x,
            depthwise_taps(first.weights, BLOCK),
            padded_vector(first.bias, first.bias_array, blocks * BLOCK),
            zeros(BLOCK),
            conv_panels(second, BLOCK, cut.panel, taps_first=True),
            *(() if sliced else vectors(second)),
            *map(np.int32, (*sizes, *window)),
            *(() if sliced else end.args),
            slices if sliced else call.output,
        ),
        global_size=(-(-second.n * second.plane // WAVE) * WAVE, panels, cut.slices),
        local_size=(WAVE, 1, 1),
        flops=first.flops(inner.flops) + second.flops(0 if sliced else end.flops),
        flops_again=(panels - 1) * first.flops(inner.flops),
        bytes_moved=of.nbytes + (slices.nbytes - second.y.nbytes if sliced else end.nbytes),
    )
    return [sums, sum_launch(second, slices, cut.slices, end)] if sliced else [sums]


register(
    "depthwise_pointwise_lanes",
    Kernel(
        call="chain",
        score=_score,
        launches=_launches,
        tunables={"TM": _PANELS, "SLICES": range(1, MOST_SLICES + 1)},
        variants=_variants,
        isa=Isa(
            multiply_adds=0.7,  # of four channels: 36 for 3 x 3 taps, whose addresses take as many
            variants={
                ("TM", "16"): Floor(0.58, _FEW),
                ("TM", "8"): Floor(0.5, _FEW),
                ("TM", "4"): Floor(0.4, _FEW),
                ("SUMS", "1"): Floor(0, "the sum of slices multiplies nothing"),
                ("XT", HALF): Floor(0.33, "four instructions decode a tap, which is used once"),
            },
            waves=2,  # taps are loaded a block ahead, so that the wave itself hides their latency
        ),
    ),
)
