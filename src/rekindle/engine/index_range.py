"""Kernels count with 32-bit integers: what they could not count is refused when it is planned.

Every index that a kernel computes is an offset into one of its buffers, a loop that runs over one,
a global id, or a position in a window with its padding. So a launch is safe where all of these,
rounded up to whole tiles and steps, stay below 2^31: `excess` looks at a call before its kernel
makes launches, `launch_excess` at what a kernel made. 64-bit indices everywhere would cost two to
four times the address arithmetic on a GPU, for tensors that no card in question can hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from rekindle.engine.kernels import Argument, Launch, Packed, Workspace
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall

MOST = 2**31 - 2**24
"""Elements of a buffer. The rest is for rounding up: tiles of 128 rows, jobs of 1/64 of a tensor
counted from zero, loops that look 2^18 elements ahead."""
_FLOAT = 4


def excess(call: LogicalCall) -> str | None:
    """What of a call does not fit, with figures; None where everything does."""
    for value in (*call.inputs, call.output):
        if value is not None and (count := _elements(value)) >= MOST:
            return f"{value.name!r} has {count:,} elements{_stored(value)}"
    return next(filter(None, map(excess, call.parts)), None) or _window_excess(call)


def launch_excess(launch: Launch) -> str | None:
    """What of a launch does not fit: a packed constant, scratch memory, the work-items."""
    for arg in launch.args:
        if (count := _elements(arg)) >= MOST:
            return f"{_name(arg)!r} has {count:,} elements"
    if (items := max(launch.global_size)) >= MOST:
        return f"{launch.kernel} has {items:,} work-items"
    return None


def first_excess(launches: Iterable[Launch]) -> str | None:
    return next(filter(None, map(launch_excess, launches)), None)


def _elements(arg: Argument) -> int:
    if isinstance(arg, Value):
        return math.prod(arg.layout.physical_shape(arg.static_shape))
    if isinstance(arg, Packed):
        return int(arg.nbytes / arg.itemsize)
    if isinstance(arg, Workspace):
        return arg.nbytes // _FLOAT
    return 0


def _name(arg: Argument) -> str:
    if isinstance(arg, Packed):
        return arg.key
    return arg.label if isinstance(arg, Workspace) else str(getattr(arg, "name", arg))


def _stored(value: Value) -> str:
    return f" as it is stored ({value.layout})" if value.layout.block else ""


def _window_excess(call: LogicalCall) -> str | None:
    """Padding and taps are positions, too; the taps of a window are counted by an average."""
    if call.name not in ("conv", "pool"):
        return None
    x, params = call.inputs[0], call.params
    assert x is not None
    pads, size = params["pads"], x.static_shape[2:]
    rank = len(pads) // 2
    for name in ("strides", "dilations"):
        if (largest := max(map(abs, params[name]), default=0)) >= MOST:
            return f"{name} of {largest:,}"
    for i in range(rank):
        extent = size[i] + abs(pads[i]) + abs(pads[i + rank]) + params["strides"][i]
        if extent >= MOST:
            return f"an axis of {extent:,} positions with its padding"
    taps = math.prod(params.get("kernel", ()))
    return f"a window of {taps:,} taps" if taps >= MOST else None
