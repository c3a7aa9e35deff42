"""`chain` on GPUs: x times a gate for each channel, and the 1 x 1 convolution that reads it.

The end of squeeze-and-excitation (Hu et al. 2018, "Squeeze-and-Excitation Networks"). Each panel of
outputs multiplies x anew, four multiplications beside 16 to 128 multiply-adds; in return the
product is neither stored nor read, and a launch is saved. It takes what that makes faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rekindle.engine.kernels import Context, Floor, Kernel, Launch, conv_lanes, register
from rekindle.engine.kernels import _conv as conv
from rekindle.engine.kernels._chain import gated
from rekindle.engine.kernels._slices import BLOCK, BYTES_PER_CLOCK, LAUNCH_CLOCKS, plain_cuts
from rekindle.engine.kernels._weights import SCALAR
from rekindle.graph.lowering import LogicalCall

_GATED = 9
"""Vector instructions for a gate, as counted clocks have them: six, and a load that is waited for.
They count against a launch, and the product written and read."""


def _score(call: LogicalCall, context: Context) -> float:
    found = gated(call, context, BLOCK) if context.target.family != "cpu" else None
    if found is None or 0 in call.output.static_shape:
        return 0
    problem = conv.problem(found[0], context, decodes=SCALAR)
    cut = plain_cuts(problem, BLOCK, context.target)[0]
    more = cut.clocks * _GATED / (BLOCK * cut.panel)
    return 10.0 * (more < LAUNCH_CLOCKS + 2 * problem.x.nbytes / BYTES_PER_CLOCK)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    found = gated(call, context, BLOCK)
    assert found is not None
    return conv_lanes.launches(found[0], context, found[1])


_GATE = "four of its instructions multiply by the gate, two move to its next block"
register(
    "gated_pointwise_lanes",
    Kernel(
        call="chain",
        score=_score,
        launches=_launches,
        isa=replace(
            conv_lanes.ISA,
            multiply_adds=0.92,
            variants={
                ("TM", "16"): Floor(0.86, _GATE),
                ("TM", "8"): Floor(0.78, _GATE),
                ("TM", "4"): Floor(0.65, _GATE),
                ("XT", "half"): Floor(0.45, "eight instructions decode what two loads bring"),
                ("SUMS", "1"): Floor(0, "the sum of slices multiplies nothing"),
            },
        ),
    ),
)
