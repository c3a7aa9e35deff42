"""What a model would need on the default device, without loading it there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rekindle._errors import DeviceError, ModelError
from rekindle.device import select_device
from rekindle.graph import onnx_io, passes
from rekindle.graph.cost import parameter_count


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
