"""What a model would need on a device, without loading it there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rekindle._errors import DeviceError, ModelError
from rekindle._types import Target
from rekindle.device import select_device
from rekindle.engine.plan import HostStep, Plan
from rekindle.graph import onnx_io, passes
from rekindle.graph.cost import parameter_count
from rekindle.graph.ir import Graph

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
    """Whether a plan fits on a card with that much memory, and if not, why."""

    memory_bytes: int
    fits: bool
    reason: str


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
        return asdict(self) | {"device_bytes": self.device_bytes}


def estimate_memory(
    graph: Graph, target: Target, shapes: Mapping[str, tuple[int, ...]]
) -> MemoryEstimate:
    """Plan a loaded graph on `target` for concrete input shapes; no device is touched.

    Raises as planning does: ModelError, UnsupportedOperatorError, InputError.
    """
    from rekindle.runtime.providers.opencl import plan_for

    made = plan_for(passes.run(graph, passes.PORTABLE), target, shapes)
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
        tuple(_fit(made, size) for size in sorted({*CARD_BYTES, target.global_bytes})),
    )


def _fit(made: Plan, memory_bytes: int) -> Fit:
    buffers = [made.memory.arena_bytes, *(c.nbytes for c in made.constants.values())]
    allowed = memory_bytes // _LARGEST_SHARE
    if made.device_bytes > memory_bytes:
        reason = f"{made.device_bytes:,} bytes are needed"
    elif max(buffers) > allowed:
        reason = f"one buffer of {max(buffers):,} bytes is needed, {allowed:,} are promised"
    else:
        reason = ""
    return Fit(memory_bytes, not reason, reason)
