"""What a model would need on a device, without loading it there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rekindle._errors import DeviceError, MemoryLimitError, ModelError
from rekindle._types import Target
from rekindle.device import select_device
from rekindle.engine.plan import HostStep, Plan
from rekindle.engine.streaming import residency
from rekindle.graph import onnx_io, passes
from rekindle.graph.cost import parameter_count
from rekindle.graph.ir import Graph
from rekindle.runtime.placement import Streaming

CARD_BYTES = (4 << 30, 8 << 30)
"""What the cards that this project is for were sold with."""
_LARGEST_SHARE = 4
"""OpenCL promises one buffer of a quarter of the memory; some drivers grant more."""


@dataclass(frozen=True)
class Estimate:
    """Number of weights, and bytes of weights and planned activations on the default device."""

    parameters: int | None
    peak_device_bytes: int | None


def estimate(path: Path) -> Estimate:
    """Read an ONNX file and plan it; what cannot be known (no device, say) is None.

    A model that only another provider can read leaves both None: these are facts beside the
    session, not a reason to refuse it.
    """
    from rekindle.runtime.providers.opencl import plan_at_ones

    try:
        graph = onnx_io.load(path)
    except ModelError:
        return Estimate(None, None)
    parameters = parameter_count(graph)
    try:
        made = plan_at_ones(passes.run(graph, passes.PORTABLE), select_device().target())
    except (DeviceError, ModelError):
        made = None
    return Estimate(parameters, made.device_bytes if made else None)


@dataclass(frozen=True)
class Fit:
    """Whether a plan fits into that much memory, with streamed weights if need be; if not, why."""

    memory_bytes: int
    fits: bool
    reason: str
    device_bytes: int = 0
    """What it takes there: weights or what of them stays, regions for the others, activations."""
    streaming: Streaming | None = None
    """What is streamed in every run; None: nothing has to be."""


@dataclass(frozen=True)
class MemoryEstimate:
    """The memory plan of a model on a target, in bytes, with aligned sizes."""

    target: str
    weight_bytes: int
    arena_bytes: int
    """Activations that share memory where they are not alive together."""
    lower_bound_bytes: int
    """The largest sum alive at one step: no arena can be smaller."""
    sum_bytes: int
    """All activations side by side."""
    buffers: int
    largest_bytes: int
    largest_name: str
    nodes: int
    host_nodes: int
    fits: tuple[Fit, ...]

    @property
    def device_bytes(self) -> int:
        return self.weight_bytes + self.arena_bytes

    def to_dict(self) -> dict[str, Any]:
        fits = [
            vars(fit) | {"streaming": fit.streaming.to_dict() if fit.streaming else None}
            for fit in self.fits
        ]
        return asdict(self) | {"device_bytes": self.device_bytes, "fits": fits}


def estimate_memory(
    graph: Graph,
    target: Target,
    shapes: Mapping[str, tuple[int, ...]],
    limit_bytes: int | None = None,
    precision: str = "model",
) -> MemoryEstimate:
    """Plan a loaded graph on `target` for concrete input shapes; no device is touched.

    `fits` has an entry for each size of card, and for `limit_bytes`. Raises as planning does:
    ModelError, UnsupportedOperatorError, InputError.
    """
    from rekindle.runtime.providers.opencl import plan_for

    portable = passes.run(graph, passes.portable(precision))
    made = plan_for(portable, target, shapes, precision)
    return memory_of(portable, made, shapes, limit_bytes, precision)


def memory_of(
    portable: Graph,
    made: Plan,
    shapes: Mapping[str, tuple[int, ...]],
    limit_bytes: int | None = None,
    precision: str = "model",
) -> MemoryEstimate:
    """The same of a plan that was made already, of a graph whose portable passes have run."""
    from rekindle.runtime.providers.opencl import plan_for

    target = made.target

    def fit(memory_bytes: int) -> Fit:
        largest = memory_bytes // _LARGEST_SHARE
        if memory_bytes == limit_bytes:  # of the target, which is no smaller for it
            largest = target.max_alloc_bytes
        smaller = replace(target, global_bytes=memory_bytes, max_alloc_bytes=largest)
        if all(arena <= largest for arena in made.memory.arenas):
            return _fit(replace(made, target=smaller), memory_bytes)
        return _fit(plan_for(portable, smaller, shapes, precision), memory_bytes)

    sizes = made.memory.sizes
    largest = max(sizes, key=lambda name: sizes[name], default="")
    return MemoryEstimate(
        target.name,
        made.constant_bytes,
        made.memory.arena_bytes,
        made.memory.lower_bound_bytes,
        sum(sizes.values()),
        len(sizes),
        sizes.get(largest, 0),
        largest,
        len(made.steps),
        sum(isinstance(step, HostStep) for step in made.steps),
        tuple(map(fit, sorted(filter(None, {*CARD_BYTES, target.global_bytes, limit_bytes})))),
    )


def _fit(made: Plan, memory_bytes: int) -> Fit:
    try:
        kept = residency(made, memory_bytes)
    except MemoryLimitError as error:
        return Fit(memory_bytes, False, error.message)
    taken = kept.weight_bytes + made.memory.arena_bytes
    return Fit(memory_bytes, True, "", taken, Streaming.of(kept, memory_bytes))
