"""Plans with both sides in them: decide, cut the CPU's parts out, open them, plan the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rekindle._errors import ModelError
from rekindle._log import debug
from rekindle._types import Target
from rekindle.engine.plan import HostStep, Plan, Step, plan
from rekindle.engine.tuner.store import stored
from rekindle.graph import passes
from rekindle.graph.infer import bind
from rekindle.graph.ir import Graph
from rekindle.runtime.hybrid.calibration import Calibration
from rekindle.runtime.hybrid.costs import problem_of
from rekindle.runtime.hybrid.division import Place, divide, extract, runs_of
from rekindle.runtime.hybrid.partition import Problem, partition, total_ns
from rekindle.runtime.hybrid.units import Unit, units_of
from rekindle.runtime.providers.onnxruntime import CpuPart

_CHEAPER = "faster on the CPU, by the estimate"


@dataclass(frozen=True)
class Planner:
    """Makes hybrid plans; called as `opencl.plan_for` is.

    A value whose shape depends on data stays on the CPU, and with it every node that reads it:
    device plans are made for shapes that are known before a run.
    """

    calibration: Calibration
    threads: int | None = None
    choose: Callable[[Problem], Sequence[bool]] = partition
    """Which units go to the device; they are given in topological order."""

    def __call__(self, graph: Graph, target: Target, shapes: Mapping[str, tuple[int, ...]]) -> Plan:
        """Plan a loaded graph for concrete input shapes. Raises as planning does."""
        bound = bind(graph, shapes)
        records = stored(target)
        whole = plan(passes.run(bound, passes.DEVICE, target), target, graph.initializers, records)
        units = units_of(bound, whole)
        refused: set[str] = set()
        while True:
            places = self._places(bound, units, refused)
            divided, parts = divide(bound, units, runs_of(units, places))
            if not parts:
                return whole
            opened: dict[str, CpuPart] = {}
            for name, part in parts.items():
                try:
                    opened[name] = CpuPart(part, self.threads)
                except ModelError as error:
                    refused |= self._refused(bound, part, error)
                    break
            else:
                rest = passes.run(divided, passes.DEVICE, target)
                made = plan(rest, target, graph.initializers, records)
                reasons = _reasons(units)
                steps = tuple(_with_part(step, opened, parts, reasons) for step in made.steps)
                return replace(made, steps=steps)

    def _places(self, graph: Graph, units: Sequence[Unit], refused: set[str]) -> list[Place]:
        problem = problem_of(graph, units, self.calibration, refused)
        on_device = self.choose(problem)
        debug(
            2, "hybrid: %d of %d units on the device, estimate %s ns",
            sum(on_device), len(units), total_ns(problem, on_device),
        )  # fmt: skip
        return [
            "device" if device else "cpu" if refused.isdisjoint(unit.outputs()) else "reference"
            for unit, device in zip(units, on_device, strict=True)
        ]

    def _refused(self, graph: Graph, part: Graph, error: ModelError) -> set[str]:
        """Outputs of those nodes of a part that ONNX Runtime does not take; of all, if together."""
        debug(2, "hybrid: %s", error)
        found: set[str] = set()
        for node in part.nodes:
            try:
                CpuPart(extract(graph, [node], "one node"))
            except ModelError:
                found |= {name for name in node.outputs if name}
        return found or {name for node in part.nodes for name in node.outputs if name}


def _reasons(units: Sequence[Unit]) -> dict[int, str]:
    """Per node why it may be on the CPU."""
    return {id(node): unit.impossible or _CHEAPER for unit in units for node in unit.nodes}


def _with_part(
    step: Step,
    opened: Mapping[str, CpuPart],
    parts: Mapping[str, Graph],
    reasons: Mapping[int, str],
) -> Step:
    """A host step that stands for a part, with the session that runs it."""
    if not isinstance(step, HostStep) or step.node.name not in opened:
        return step
    part = parts[step.node.name]
    why = tuple(reasons[id(node)] for node in part.nodes)
    return HostStep(step.node, "runs on ONNX Runtime", opened[step.node.name], part, why)
