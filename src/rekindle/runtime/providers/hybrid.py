"""The OpenCL device and the CPU together: each node where the cost model puts it.

The device's side is planned and run as in `opencl`; a part on the CPU is a step of that plan which
ONNX Runtime computes. What every value costs to move is in `rekindle.runtime.hybrid`.
"""

from __future__ import annotations

from pathlib import Path

from rekindle._errors import UsageError
from rekindle.device import select_device
from rekindle.graph import onnx_io
from rekindle.runtime._options import Options
from rekindle.runtime.hybrid.calibration import calibration_for
from rekindle.runtime.hybrid.planner import Planner
from rekindle.runtime.providers import Provider, register
from rekindle.runtime.providers.opencl import OpenCLBackend


def _open(path: Path, options: Options, reason: str) -> OpenCLBackend:
    if options.strict:
        raise UsageError(
            "strict=True refuses what the hybrid provider is for: nodes on the CPU",
            hint="use provider='opencl' with strict, or leave strict out",
        )
    options.refuse_precision("hybrid")
    device = select_device(options.device)
    planner = Planner(calibration_for(device), options.threads)
    return OpenCLBackend(onnx_io.load(path), device, options, reason, "hybrid", planner)


register("hybrid", Provider(frameworks=("onnx",), open=_open))
