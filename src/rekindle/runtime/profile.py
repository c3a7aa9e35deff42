"""Profile of a model on our engine, as a session would run it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rekindle._types import Target
from rekindle.device import select_device
from rekindle.engine.alternatives import buildable
from rekindle.engine.plan import Plan
from rekindle.engine.profile import Profile, profile
from rekindle.graph import onnx_io, passes
from rekindle.graph.ir import Array
from rekindle.runtime.providers.opencl import plan_for


def profile_model(
    path: Path, feeds: Mapping[str, Array], device: str | int | None = None, runs: int = 10
) -> Profile:
    """Profile an ONNX file for inputs of these shapes.

    All weights are on the device; raises what opening and running a session raises.
    """
    chosen = select_device(device)
    graph = passes.run(onnx_io.load(path), passes.PORTABLE)
    shapes = {name: array.shape for name, array in feeds.items()}

    def planned(target: Target) -> Plan:
        return plan_for(graph, target, shapes)

    return profile(buildable(chosen, planned(chosen.target()), planned), chosen, feeds, runs)
