"""Our engine. A plan is made for each set of input shapes; the last few are kept (LRU)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rekindle._errors import RekindleError, UnsupportedOperatorError
from rekindle._types import Target
from rekindle.device import Device, select_device
from rekindle.engine.alternatives import buildable
from rekindle.engine.cache import Executors
from rekindle.engine.choices import Records
from rekindle.engine.executor import Executor
from rekindle.engine.kernels import check_disabled
from rekindle.engine.lanes import Lanes
from rekindle.engine.plan import HostStep, Plan, plan
from rekindle.engine.streaming import Residency, residency
from rekindle.engine.trace import Trace
from rekindle.engine.transfers import transfers
from rekindle.engine.tuner.store import stored
from rekindle.graph import onnx_io, passes
from rekindle.graph.cost import parameter_count
from rekindle.graph.infer import bind
from rekindle.graph.ir import Array, Graph
from rekindle.runtime._options import Options
from rekindle.runtime.placement import PlacedNode, Placement, Streaming
from rekindle.runtime.providers import Provider, register

ShapeKey = tuple[tuple[int, ...], ...]


def plan_for(
    graph: Graph,
    target: Target,
    shapes: Mapping[str, tuple[int, ...]],
    precision: str = "model",
    records: Records | None = None,
) -> Plan:
    """Plan a loaded graph on `target` for concrete input shapes, with tuning records if given."""
    bound = bind(graph, shapes)
    prepared = passes.run(bound, passes.device(precision), target)
    return plan(prepared, target, graph.initializers, records)


def tuned_plan_for(
    graph: Graph,
    target: Target,
    shapes: Mapping[str, tuple[int, ...]],
    precision: str = "model",
) -> Plan:
    """`plan_for` with the tuning records that are kept here for this target."""
    return plan_for(graph, target, shapes, precision, stored(target))


Planner = Callable[[Graph, Target, Mapping[str, tuple[int, ...]]], Plan]


def plan_at_ones(graph: Graph, target: Target, planner: Planner = tuned_plan_for) -> Plan | None:
    """Plan with dynamic dimensions as 1; None where the model cannot take that."""
    check_disabled(target)
    specs = graph.input_specs()
    try:
        return planner(graph, target, {spec.name: _ones(spec.shape) for spec in specs})
    except RekindleError:
        if all(spec.is_static for spec in specs):
            raise
        return None


class OpenCLBackend:
    """A model on an OpenCL device; with another `planner`, parts of it elsewhere."""

    def __init__(
        self,
        graph: Graph,
        device: Device,
        options: Options,
        reason: str,
        provider: str = "opencl",
        planner: Planner | None = None,
    ) -> None:
        planner = planner or partial(tuned_plan_for, precision=options.precision)
        on_load, on_device = passes.portable(options.precision), passes.device(options.precision)
        self._provider, self._planner = provider, planner
        self.inputs = graph.input_specs()
        self.outputs = graph.output_specs()
        self.parameters: int | None = parameter_count(graph)
        self.optimization = "rekindle: " + ", ".join((*on_load, *on_device))
        self._graph = passes.run(graph, on_load)
        self._device = device
        self._target = device.target()
        self._options = options
        self._reason = reason
        self._limit_bytes = min(
            options.memory_limit_bytes or self._target.global_bytes, self._target.global_bytes
        )
        self._latest: tuple[Plan, Residency, float | None] | None = None
        first = plan_at_ones(self._graph, self._target, planner)
        self.peak_device_bytes: int | None = None
        if first:
            kept = self._admit(first)
            self._latest = first, kept, None
            self.peak_device_bytes = kept.weight_bytes + first.memory.arena_bytes
        self._executors = Executors(device.opencl(), self._limit_bytes)
        self._lanes = Lanes(self._executors)
        key = tuple(_ones(s.shape) for s in self.inputs)
        self._at_ones = (key, first) if first else None
        if first and all(spec.is_static for spec in self.inputs):
            self._use(self._lanes.open(0, key, partial(self._buildable, key)))

    @property
    def placement(self) -> Placement:
        if self._latest is None:
            return Placement(self._provider, self._device.name, self._reason)
        return self._place(*self._latest)

    @property
    def device_bytes(self) -> int | None:
        return self._executors.device_bytes

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return self._run(0, feeds)

    def lanes(self, count: int) -> Sequence[Callable[[Mapping[str, Array]], dict[str, Array]]]:
        """Each with its own queue and activations; weights and plans are shared."""
        self._lanes.grow(count)
        return [partial(self._run, lane) for lane in range(count)]

    def trace(self) -> Trace:
        """Times every command from now on; what was opened before is opened anew."""
        made = Trace(self._device.opencl())
        self._executors.close()
        self._executors = Executors(self._device.opencl(), self._limit_bytes, made)
        self._lanes = Lanes(self._executors)
        return made

    def close(self) -> None:
        self._executors.close()

    def _run(self, lane: int, feeds: Mapping[str, Array]) -> dict[str, Array]:
        key = tuple([feeds[spec.name].shape for spec in self.inputs])
        return self._lanes.run(lane, key, feeds, partial(self._buildable, key), self._use)

    def _buildable(self, key: ShapeKey) -> Plan:
        """A plan for these input shapes that is admitted, and whose kernels this driver builds."""
        known, self._at_ones = self._at_ones, None
        if known and known[0] == key and known[1].target == self._target:
            fresh = known[1]
        else:
            fresh = self._replan(key, self._target)
        fresh = buildable(self._device, fresh, partial(self._replan, key))
        self._target = fresh.target
        return fresh

    def _replan(self, key: ShapeKey, target: Target) -> Plan:
        shapes = {spec.name: shape for spec, shape in zip(self.inputs, key, strict=True)}
        made = self._planner(self._graph, target, shapes)
        self._admit(made)
        return made

    def _use(self, executor: Executor) -> None:
        self._latest = executor.plan, executor.residency, executor.uploads.bandwidth_bytes_s

    def _admit(self, candidate: Plan) -> Residency:
        """Memory and strictness are checked before anything is allocated."""
        kept = residency(candidate, self._limit_bytes)
        on_host = [s for s in candidate.steps if isinstance(s, HostStep)]
        if self._options.strict and on_host:
            named = "; ".join(f"{s.node}: {s.reason}" for s in on_host[:8])
            raise UnsupportedOperatorError(
                f"strict=True, but {len(on_host)} nodes would run on the host: {named}",
                hint="leave strict out to let them run on the host",
            )
        return kept

    def _place(self, chosen: Plan, kept: Residency, bandwidth_bytes_s: float | None) -> Placement:
        nodes = [placed for step in chosen.steps for placed in PlacedNode.of(step)]
        streaming = Streaming.of(kept, self._limit_bytes, bandwidth_bytes_s)
        moved = transfers(chosen)
        return Placement(self._provider, self._device.name, self._reason, nodes, streaming, moved)


def _ones(shape: tuple[int | str, ...]) -> tuple[int, ...]:
    return tuple(d if isinstance(d, int) else 1 for d in shape)


def _open(path: Path, options: Options, reason: str) -> OpenCLBackend:
    options.refuse("opencl", "threads")
    device = select_device(options.device)
    return OpenCLBackend(onnx_io.load(path), device, options, reason)


register("opencl", Provider(frameworks=("onnx",), open=_open))
