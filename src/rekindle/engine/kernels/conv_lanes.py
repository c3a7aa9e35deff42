"""`conv` on GPUs, dense or in groups: blocked or row-major in, blocked out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle.engine.kernels import (
    Argument,
    Context,
    Floor,
    Isa,
    Kernel,
    Launch,
    Variant,
    register,
)
from rekindle.engine.kernels import _conv as conv
from rekindle.engine.kernels._epilogue import NOTHING, epilogue
from rekindle.engine.kernels._packing import conv_panels, zeros
from rekindle.engine.kernels._slices import (
    BLOCK,
    MOST_SLICES,
    PANELS,
    WAVE,
    Cut,
    plain_cuts,
    sum_launch,
    vectors,
    workspace,
)
from rekindle.engine.kernels._weights import FLOAT, HALF, SCALAR
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall


def _score(call: LogicalCall, context: Context) -> float:
    if context.target.family == "cpu" or not conv.is_constant_planar(call, context):
        return 0
    x_block, y_block = conv.blocks(call)
    if y_block != BLOCK or x_block not in (0, BLOCK):
        return 0
    return 10.0 * (conv.groups_to_merge(call, x_block or 1, BLOCK) > 0)


def _problem(call: LogicalCall, context: Context) -> tuple[conv.Problem, int]:
    """The call in numbers, and channels in a block of x."""
    x_block = conv.blocks(call)[0] or 1
    merged = conv.groups_to_merge(call, x_block, BLOCK)
    return conv.problem(call, context, merged, decodes=SCALAR), x_block


def _variant(cut: Cut) -> Variant:
    return ("TM", cut.panel), ("SLICES", cut.slices)


def _variants(call: LogicalCall, context: Context) -> Sequence[Variant]:
    """How a call can be cut, the cheapest first."""
    return [_variant(cut) for cut in plain_cuts(*_problem(call, context), context.target)]


def launches(call: LogicalCall, context: Context, gate: Value | None = None) -> Sequence[Launch]:
    """The convolution of x, or, where it is 1 x 1, of x times `gate` (N, C, 1, 1); both blocked."""
    problem, x_block = _problem(call, context)
    if problem.is_empty:
        return []
    win, m = problem.window, problem.m
    cuts = plain_cuts(problem, x_block, context.target)
    cut = next((c for c in cuts if _variant(c) == context.variant), cuts[0])
    sliced, plain = cut.slices > 1, win.is_pointwise
    c_blocks = -(-problem.c_group // x_block)
    end = epilogue(call, 3, BLOCK)
    slices = workspace(problem, cut.slices)
    space = (*win.size, *win.kernel, *win.strides, *win.pads, *win.dilations)
    around: tuple[Argument, ...] = (*map(np.int32, space), zeros(BLOCK))
    sizes = (problem.n, m, c_blocks * problem.group, problem.c_group, cut.blocks, problem.m_group)
    product = Launch(
        kernel="conv_lanes",
        entry="conv",
        defines=(
            ("TM", str(cut.panel)),
            ("XB", str(x_block)),
            ("PLAIN", str(int(plain))),
            ("GATED", str(int(gate is not None))),
            ("SLICED", str(int(sliced))),
            ("WT", problem.weights.storage),
            ("SCALES", "0" if sliced else str(problem.weights.scales)),
            problem.defines[0],
            ("YT", FLOAT) if sliced else problem.defines[1],
            *(NOTHING if sliced else end.defines),
        ),
        args=(
            problem.x,
            conv_panels(problem, x_block, cut.panel, taps_first=True),
            *((gate,) if gate is not None else ()),
            *(() if sliced else vectors(problem)),
            *map(np.int32, (*sizes, *win.out)),
            *(() if plain else around),
            *(() if sliced else end.args),
            slices if sliced else call.output,
        ),
        global_size=(
            -(-problem.n * problem.plane // WAVE) * WAVE, -(-m // cut.panel), cut.slices,
        ),
        local_size=(WAVE, 1, 1),
        flops=problem.flops(0 if sliced else end.flops),
        bytes_moved=problem.nbytes + (slices.nbytes if sliced else end.nbytes),
    )  # fmt: skip
    return [product, sum_launch(problem, slices, cut.slices, end)] if sliced else [product]


ISA = Isa(
    multiply_adds=0.94,
    variants={
        ("TM", "4"): Floor(0.72, "for four outputs, two of 18 instructions move a pointer"),
        ("XT", HALF): Floor(0.84, "four instructions decode what one load brings"),
        ("XB", "1"): Floor(0.66, "a load of a row-major x brings one channel, not four"),
        ("SUMS", "1"): Floor(0, "the sum of slices multiplies nothing"),
    },
)

register(
    "conv_lanes",
    Kernel(
        call="conv",
        score=_score,
        launches=launches,
        tunables={"TM": PANELS, "SLICES": range(1, MOST_SLICES + 1)},
        variants=_variants,
        isa=ISA,
    ),
)
