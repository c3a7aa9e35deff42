"""Our engine. A plan is made for each set of input shapes; the last few are kept (LRU)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from rekindle._errors import MemoryLimitError, RekindleError, UnsupportedOperatorError
from rekindle._types import Target
from rekindle.device import Device, select_device
from rekindle.engine.executor import Executor, Weights
from rekindle.engine.kernels import check_disabled
from rekindle.engine.plan import HostStep, Plan, plan
from rekindle.graph import onnx_io, passes
from rekindle.graph.cost import parameter_count
from rekindle.graph.infer import bind
from rekindle.graph.ir import Array, Graph
from rekindle.runtime._options import Options
from rekindle.runtime.placement import PlacedNode, Placement
from rekindle.runtime.providers import Provider, register

_PLANS_KEPT = 8
ShapeKey = tuple[tuple[int, ...], ...]


def plan_for(graph: Graph, target: Target, shapes: Mapping[str, tuple[int, ...]]) -> Plan:
    """Plan a loaded graph on `target` for concrete input shapes."""
    bound = bind(graph, shapes)
    return plan(passes.run(bound, passes.DEVICE, target), target)


def plan_at_ones(graph: Graph, target: Target) -> Plan | None:
    """Plan with dynamic dimensions as 1; None where the model cannot take that."""
    check_disabled(target)
    specs = graph.input_specs()
    try:
        return plan_for(graph, target, {spec.name: _ones(spec.shape) for spec in specs})
    except RekindleError:
        if all(spec.is_static for spec in specs):
            raise
        return None


class OpenCLBackend:
    """A model on an OpenCL device."""

    def __init__(self, graph: Graph, device: Device, options: Options, reason: str) -> None:
        self.inputs = graph.input_specs()
        self.outputs = graph.output_specs()
        self.parameters: int | None = parameter_count(graph)
        self.optimization = "rekindle: " + ", ".join((*passes.PORTABLE, *passes.DEVICE))
        self._graph = passes.run(graph, passes.PORTABLE)
        self._device = device
        self._target = device.target()
        self._options = options
        self._reason = reason
        self._executors: OrderedDict[ShapeKey, Executor] = OrderedDict()
        self._placement = Placement("opencl", device.name, reason)
        first = plan_at_ones(self._graph, self._target)
        self.peak_device_bytes = first.device_bytes if first else None
        if first:
            self._admit(first)
            self._placement = self._place(first)
        self._weights = Weights(device.opencl())
        if first and all(spec.is_static for spec in self.inputs):
            self._keep(tuple(_ones(s.shape) for s in self.inputs), first)

    @property
    def placement(self) -> Placement:
        return self._placement

    @property
    def device_bytes(self) -> int | None:
        return self._weights.nbytes + sum(e.arena_bytes for e in self._executors.values())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        key = tuple(feeds[spec.name].shape for spec in self.inputs)
        executor = self._executors.get(key)
        if executor is None:
            shapes = {spec.name: feeds[spec.name].shape for spec in self.inputs}
            fresh = plan_for(self._graph, self._target, shapes)
            self._admit(fresh)
            self._placement = self._place(fresh)
            executor = self._keep(key, fresh)
        self._executors.move_to_end(key)
        return executor.run(feeds)

    def close(self) -> None:
        while self._executors:
            self._executors.popitem()[1].release()
        self._weights.release()

    def _keep(self, key: ShapeKey, fresh: Plan) -> Executor:
        while len(self._executors) >= _PLANS_KEPT:
            self._executors.popitem(last=False)[1].release()
        executor = Executor(fresh, self._device.opencl(), self._weights)
        self._executors[key] = executor
        return executor

    def _admit(self, candidate: Plan) -> None:
        """Memory and strictness are checked before anything is allocated."""
        limit = min(self._options.memory_limit_bytes or self._target.global_bytes,
                    self._target.global_bytes)  # fmt: skip
        buffers = [*candidate.memory.arenas, *(c.nbytes for c in candidate.constants.values())]
        largest = max(buffers, default=0)
        if candidate.device_bytes > limit or largest > self._target.max_alloc_bytes:
            raise MemoryLimitError(
                f"the model needs {candidate.device_bytes:,} bytes on the device (weights "
                f"{candidate.constant_bytes:,}, activations {candidate.memory.arena_bytes:,}, "
                f"largest allocation {largest:,}); the limit is {limit:,} (device "
                f"{self._target.name}: {self._target.global_bytes:,}, largest allocation "
                f"{self._target.max_alloc_bytes:,})",
                hint="use a smaller batch or model, or provider='onnxruntime'",
            )
        on_host = [s for s in candidate.steps if isinstance(s, HostStep)]
        if self._options.strict and on_host:
            named = "; ".join(f"{s.node}: {s.reason}" for s in on_host[:8])
            raise UnsupportedOperatorError(
                f"strict=True, but {len(on_host)} nodes would run on the host: {named}",
                hint="leave strict out to let them run on the host",
            )

    def _place(self, chosen: Plan) -> Placement:
        nodes = [
            PlacedNode(s.node.name or s.node.outputs[0], s.node.qualified, "host", (), s.reason)
            if isinstance(s, HostStep)
            else PlacedNode(
                s.node.name or s.node.outputs[0], s.node.qualified, "device", s.algorithms, s.reason
            )
            for s in chosen.steps
        ]
        return Placement("opencl", self._device.name, self._reason, nodes)


def _ones(shape: tuple[int | str, ...]) -> tuple[int, ...]:
    return tuple(d if isinstance(d, int) else 1 for d in shape)


def _open(path: Path, options: Options, reason: str) -> OpenCLBackend:
    options.refuse("opencl", "threads")
    device = select_device(options.device)
    return OpenCLBackend(onnx_io.load(path), device, options, reason)


register("opencl", Provider(frameworks=("onnx",), open=_open))
