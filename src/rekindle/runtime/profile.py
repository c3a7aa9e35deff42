"""Profile of a model on our engine, as a session would run it."""

from __future__ import annotations

from collections.abc import Mapping

from rekindle._types import Target
from rekindle.device import select_device
from rekindle.engine.alternatives import buildable
from rekindle.engine.plan import Plan
from rekindle.engine.profile import Profile, profile
from rekindle.graph import passes
from rekindle.graph.ir import Array, Graph
from rekindle.runtime.providers.opencl import tuned_plan_for


def profile_model(
    graph: Graph, feeds: Mapping[str, Array], device: str | int | None = None, runs: int = 10
) -> Profile:
    """Profile a loaded graph on these inputs.

    All weights are on the device, as without a memory limit. Raises what opening and running a
    session raises.
    """
    chosen = select_device(device)
    portable = passes.run(graph, passes.PORTABLE)
    shapes = {name: array.shape for name, array in feeds.items()}

    def planned(target: Target) -> Plan:
        return tuned_plan_for(portable, target, shapes)

    return profile(buildable(chosen, planned(chosen.target()), planned), chosen, feeds, runs)
