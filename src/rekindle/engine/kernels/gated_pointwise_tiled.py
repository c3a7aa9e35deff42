"""`chain` on CPUs: x times a gate for each channel, and the 1 x 1 convolution that reads it.

The end of squeeze-and-excitation (Hu et al. 2018, "Squeeze-and-Excitation Networks"): the product
is never stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from rekindle.engine.kernels import Context, Kernel, Launch, conv_tiled, register
from rekindle.engine.kernels._chain import gated
from rekindle.engine.kernels._tile import BLOCK
from rekindle.graph.lowering import LogicalCall

_MOST_PANELS = 6
"""Each panel of outputs multiplies x anew. Against two kernels, batch 1 and 8, the pair took 0.67
to 1.13 of the time with up to 6 panels (mean 0.90), 0.93 to 1.12 with more."""


def _score(call: LogicalCall, context: Context) -> float:
    if context.target.family != "cpu" or 0 in call.output.static_shape:
        return 0
    found = gated(call, context, BLOCK)
    if found is None:
        return 0
    (launch,) = conv_tiled.launches(found[0], context, found[1])
    return 10.0 * (launch.global_size[1] <= _MOST_PANELS)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    found = gated(call, context, BLOCK)
    assert found is not None
    return conv_tiled.launches(found[0], context, found[1])


register("gated_pointwise_tiled", Kernel(call="chain", score=_score, launches=_launches))
