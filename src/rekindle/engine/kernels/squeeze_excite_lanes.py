"""`chain` on GPUs: squeeze and excite, or the products of it, in one launch.

The mean of each channel, a 1 x 1 `conv` of that one pixel and another one behind it: a work-group
an image, so that nothing has to be waited for but barriers. One compute unit then reads what
otherwise the whole card does. By how its four waves wait, each lane for a load of four floats
that takes 400 clocks, that is 10 bytes a clock (an estimate on the safe side: the code has four
such loads under way). A launch takes 11,000 clocks, so 112 KB must be read before it would have
been cheaper. Where an image is larger, the mean is left to `reduce`, which spreads over the card,
and this kernel does the two products, whose weights are few. Where those are many, too, it leaves
all to others. With several images as many compute units read, up to the card's bandwidth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rekindle._types import Target
from rekindle.engine.kernels import Context, Isa, Kernel, Launch, choose, register
from rekindle.engine.kernels import _conv as conv
from rekindle.engine.kernels._chain import is_plain
from rekindle.engine.kernels._epilogue import epilogue, middle, operands
from rekindle.engine.kernels._packing import conv_panels
from rekindle.engine.kernels._slices import (
    BLOCK,
    BYTES_PER_CLOCK,
    LAUNCH_CLOCKS,
    plain_cuts,
    vectors,
)
from rekindle.engine.kernels._weights import BFLOAT16, FLOAT, HALF
from rekindle.graph.lowering import LogicalCall

_GROUP = 256
_MOST = _GROUP * BLOCK
"""Channels, hidden values, outputs: 12 KiB of local memory, with the sums."""
_MOST_PARTS = 64
"""Lanes that add to one sum: one of them reads in turn what they have."""
_DECODES = (FLOAT, HALF, BFLOAT16)
_UNIT_BYTES_PER_CLOCK = 10
"""That one compute unit reads with the four waves of a work-group. Assumed."""
_ONCE = 3000
"""Clocks of barriers, sums in local memory and epilogues. Assumed."""


@dataclass(frozen=True)
class _Excite:
    """Both products in numbers."""

    pool: LogicalCall | None
    """The mean before them."""
    first: conv.Problem
    second: conv.Problem
    first_call: LogicalCall
    second_call: LogicalCall

    @property
    def image_bytes(self) -> int:
        """Of an image whose means are made here."""
        (x,) = self.pool.inputs if self.pool else (None,)
        return x.nbytes // self.first.n if x else 0

    @property
    def weight_bytes(self) -> int:
        return self.first.w.nbytes + self.second.w.nbytes

    def clocks(self, image_bytes: int, target: Target) -> float:
        """What the launch takes of that many bytes an image, besides the weights."""
        images, units = self.first.n, target.compute_units
        together = min(images, units)
        speed = min(_UNIT_BYTES_PER_CLOCK * together, BYTES_PER_CLOCK) / together
        rounds = -(-images // units)
        return LAUNCH_CLOCKS + _ONCE + rounds * (image_bytes + self.weight_bytes) / speed


def _excite(call: LogicalCall, context: Context) -> _Excite | None:
    """The call in numbers; None where the kernel does not do it."""
    pool = call.parts[0] if call.parts and call.parts[0].name == "reduce" else None
    parts = call.parts[1:] if pool else call.parts
    if context.target.family == "cpu" or [part.name for part in parts] != ["conv", "conv"]:
        return None
    first, second = parts
    if operands(first, 3) or not (_is_of_a_pixel(first) and _is_of_a_pixel(second)):
        return None
    if not all(conv.is_constant_planar(part, context) for part in parts):
        return None
    if not _lies_in_blocks(pool or first, pool, second):
        return None
    done = [conv.problem(part, context, decodes=_DECODES) for part in parts]
    fits = max(done[0].c, done[1].c, done[1].m) <= _MOST
    return _Excite(pool, done[0], done[1], first, second) if fits else None


def _is_of_a_pixel(call: LogicalCall) -> bool:
    x = call.inputs[0]
    assert x is not None
    return math.prod(x.static_shape[2:]) == 1 and is_plain(call)


def _lies_in_blocks(whole: LogicalCall, pool: LogicalCall | None, second: LogicalCall) -> bool:
    """Whether what the chain reads and writes is blocked; the mean is that of all space."""
    x = whole.inputs[0]
    assert x is not None
    if pool is not None:
        axes = tuple(range(2, len(x.static_shape)))
        if pool.params["kind"] != "mean" or tuple(pool.params["axes"]) != axes:
            return False
    return x.layout.block == second.output.layout.block == BLOCK


def _filled(channels: int) -> int:
    """Channels of whole blocks."""
    return -(-channels // BLOCK) * BLOCK


def _score(call: LogicalCall, context: Context) -> float:
    of = _excite(call, context)
    if of is None or of.second.is_empty or 0 in of.first.x.static_shape:
        return 0
    target = context.target
    products = of.clocks(0, target)
    apart = sum(_alone(problem, target) for problem in (of.first, of.second))
    if of.pool is None:
        return 20.0 * (products < apart)
    found = choose(of.pool, context)
    if found is None:
        return 0
    launches = len(found[1].launches(of.pool, context))
    mean = launches * LAUNCH_CLOCKS + of.first.n * of.image_bytes / BYTES_PER_CLOCK
    return 20.0 * (of.clocks(of.image_bytes, target) < mean + min(products, apart))


def _alone(problem: conv.Problem, target: Target) -> float:
    """Clocks of a product by conv_lanes."""
    work = plain_cuts(problem, BLOCK, target)[0].clocks
    return LAUNCH_CLOCKS + max(work, problem.w.nbytes / BYTES_PER_CLOCK)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    of = _excite(call, context)
    assert of is not None
    first, second = of.first, of.second
    x = call.inputs[0]
    assert x is not None
    inner, end = middle(of.first_call, BLOCK), epilogue(of.second_call, 3, BLOCK)
    blocks = -(-first.c // BLOCK)
    pixels = math.prod(x.static_shape[2:])
    # As many lanes for a block of channels as there are for all blocks at once.
    each = min(_MOST_PARTS, 1 << (_GROUP // blocks).bit_length() - 1)
    weights = [conv_panels(part, 1, _filled(part.m), taps_first=True) for part in (first, second)]
    return [
        Launch(
            kernel="squeeze_excite_lanes",
            entry="excite",
            defines=(
                ("POOL", str(int(of.pool is not None))),
                ("WT1", first.weights.storage),
                ("WT2", second.weights.storage),
                ("SCALES1", str(first.weights.scales)),
                ("SCALES2", str(second.weights.scales)),
                first.defines[0],
                second.defines[1],
                *inner.defines,
                *end.defines,
            ),
            args=(
                x,
                weights[0],
                *vectors(first),
                weights[1],
                *vectors(second),
                *map(np.int32, (first.c, first.m, second.m, pixels, each)),
                *end.args,
                call.output,
            ),
            global_size=(_GROUP, first.n),
            local_size=(_GROUP, 1),
            flops=first.flops(inner.flops) + second.flops(end.flops) + math.prod(x.static_shape),
            # Each image's unit reads the weights by itself.
            bytes_moved=x.nbytes + first.n * of.weight_bytes + second.y.nbytes + end.nbytes,
        )
    ]


register(
    "squeeze_excite_lanes",
    Kernel(
        call="chain", score=_score, launches=_launches, isa=Isa(multiply_adds=0.3)
    ),  # a weight is loaded for one image
)
