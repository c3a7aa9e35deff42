"""A model on the device and by the reference, node by node: which node goes wrong, if one does.

Every node of the optimised graph runs alone on the device, on the reference's own inputs, so that
the first node that differs is the one at fault and not one that was handed wrong numbers. Then
the whole model is compared, which adds what no single node shows: the passes, and the memory plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rekindle._errors import DeviceError, MemoryLimitError, UsageError
from rekindle._types import TensorSpec
from rekindle.device import Device, select_device
from rekindle.engine.executor import Executor
from rekindle.engine.plan import DeviceStep, HostStep, Plan, Step, plan
from rekindle.engine.single_node import (
    as_stored,
    isolate,
    run_alone,
    tolerance_of,
)
from rekindle.engine.streaming import Residency, residency
from rekindle.engine.tuner.store import stored
from rekindle.engine.weights import Weights
from rekindle.graph import onnx_io, ops, passes, reference
from rekindle.graph.infer import bind
from rekindle.graph.ir import Array, Graph
from rekindle.graph.reference import difference
from rekindle.runtime._options import check_precision, parse_bytes
from rekindle.runtime.fidelity import fidelity
from rekindle.runtime.framework import detect

_NARROW = 0.05
"""Two ways of adding up round some values to neighbouring halves, which layers behind enlarge."""
Watch = Callable[[Iterable[Step], int], Iterable[Step]]
"""Passes the steps on, and shows how far they are."""


@dataclass(frozen=True)
class NodeCheck:
    """One node of the optimised graph: its kernels, and how far they are from the reference."""

    node: str
    op_type: str
    where: str
    """"device", or "host": there the reference itself runs, and there is nothing to compare."""
    kernels: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    difference: float | None
    """max|a-b| / max|b|, the worst of its outputs; None: not compared."""
    tolerance: float
    problem: str = ""
    """What the driver said instead of running it; for a host node why it is there."""

    @property
    def differs(self) -> bool:
        if self.where == "host":
            return False
        return self.difference is None or not self.difference <= self.tolerance


@dataclass(frozen=True)
class OutputCheck:
    """One output of the whole model, against the reference of the model as the file has it.

    With `narrow` storage types the device is held against the reference of the narrowed graph: what
    the storage costs is told by `snr_db` and `agreement`, and is no fault.
    """

    name: str
    difference: float | None
    """Of the device; None: the model did not run there."""
    passes_difference: float
    """Of the reference of the optimised graph: what the passes changed."""
    tolerance: float
    narrow: bool = False
    snr_db: float | None = None
    """Signal to noise of the device's output; None: no noise at all, or it did not run."""
    agreement: float | None = None
    """Share of rows (along the last axis) whose largest element is the same."""

    @property
    def differs(self) -> bool:
        return self.difference is None or not self.difference <= self.tolerance

    @property
    def passes_differ(self) -> bool:
        return not self.narrow and not self.passes_difference <= self.tolerance


@dataclass(frozen=True)
class Verification:
    """What a comparison found."""

    model: str
    device: str
    driver: str
    nodes: tuple[NodeCheck, ...]
    outputs: tuple[OutputCheck, ...]
    problem: str = ""
    """Why the whole model did not run on the device; else empty."""

    @property
    def first(self) -> NodeCheck | None:
        """The first node that differs, in the order of execution."""
        return next((check for check in self.nodes if check.differs), None)

    @property
    def agrees(self) -> bool:
        differs = any(o.differs or o.passes_differ for o in self.outputs)
        return self.first is None and not differs and not self.problem

    def worst(self, count: int) -> list[NodeCheck]:
        """The nodes that come nearest to their tolerance, or pass it, worst first."""
        compared = [check for check in self.nodes if check.where == "device"]
        return sorted(compared, key=_badness, reverse=True)[:count]

    def to_dict(self) -> dict[str, Any]:
        first = self.first
        return {
            "model": self.model,
            "device": self.device,
            "driver": self.driver,
            "agrees": self.agrees,
            "first": _facts(first) if first else None,
            "outputs": [vars(o) | {"differs": o.differs} for o in self.outputs],
            "problem": self.problem,
            "nodes": [_facts(check) for check in self.nodes],
        }


def verify(
    model: str | Path,
    feeds: Mapping[str, Array],
    *,
    device: str | int | None = None,
    tolerance: float | None = None,
    memory_limit: int | str | None = None,
    precision: str = "model",
    watch: Watch = lambda steps, _: steps,
) -> Verification:
    """Run `model` on the OpenCL device and by the reference, and compare node by node.

    feeds: an array for each input. tolerance: None takes 1e-4 of the largest element, 1e-3 after
    Winograd's transforms, and more for 16-bit results. memory_limit: what the whole model may take
    of the device, as in `open_session`: weights that do not fit are streamed. precision: as there.

    Raises as `open_session` does for models and devices that cannot be used, InputError for wrong
    feeds, and UsageError for a tolerance that is not positive.
    """
    if tolerance is not None and not 0 < tolerance < float("inf"):
        raise UsageError(f"tolerance={tolerance} is not a positive number", hint="such as 1e-4")
    chosen = select_device(device)
    target = chosen.target()
    graph = onnx_io.load(_onnx_file(model))
    shapes = {name: array.shape for name, array in reference.checked(graph, feeds).items()}
    bound = bind(passes.run(graph, passes.portable(precision)), shapes)
    expected = reference.run(graph, feeds)
    prepared = passes.run(bound, passes.device(precision), target)
    made = plan(prepared, target, records=stored(target))
    limit = target.global_bytes
    if memory_limit is not None:
        limit = min(parse_bytes(memory_limit), limit)
    kept = residency(made, limit)
    comparison = _Comparison(made, kept, chosen, Weights(chosen.opencl()), tolerance)
    try:
        found, problem = comparison.whole(feeds)
        nodes, optimised = comparison.nodes(feeds, watch)
    finally:
        comparison.weights.release()
    narrow = check_precision(precision) not in ("model", "fp32")
    outputs = tuple(
        _output_check(
            name,
            array,
            optimised[name],
            found[name] if found else None,
            comparison.accepted([name], made.algorithms),
            narrow,
        )
        for name, array in expected.items()
    )
    return Verification(str(model), str(chosen), target.driver, nodes, outputs, problem)


def _output_check(
    name: str,
    expected: Array,
    optimised: Array,
    found: Array | None,
    tolerance: float,
    narrow: bool,
) -> OutputCheck:
    tolerance = max(tolerance, _NARROW) if narrow else tolerance
    if found is None:
        return OutputCheck(name, None, difference(optimised, expected), tolerance, narrow)
    quality = fidelity(found, expected) if expected.dtype.kind == "f" else None
    return OutputCheck(
        name,
        difference(found, optimised if narrow else expected),
        difference(optimised, expected),
        tolerance,
        narrow,
        quality.snr_db if quality and math.isfinite(quality.snr_db) else None,
        quality.agreement if quality else None,
    )


@dataclass
class _Comparison:
    plan: Plan
    kept: Residency
    device: Device
    weights: Weights
    tolerance: float | None

    def whole(self, feeds: Mapping[str, Array]) -> tuple[dict[str, Array] | None, str]:
        """All outputs by the plan as it is; None and the reason where the driver refuses it."""
        try:
            executor = Executor(self.plan, self.device.opencl(), self.weights, kept=self.kept)
            try:
                return executor.run(feeds), ""
            finally:
                executor.release()
        except (DeviceError, MemoryLimitError) as error:
            return None, error.message

    def nodes(
        self, feeds: Mapping[str, Array], watch: Watch
    ) -> tuple[tuple[NodeCheck, ...], dict[str, Array]]:
        """A check of every step, and the outputs of the optimised graph by the reference."""
        graph, steps = self.plan.graph, self.plan.steps
        values: dict[str, Array] = {**graph.initializers, **feeds}
        last = {n: i for i, s in enumerate(steps) for n in (*s.node.inputs, *s.node.outputs)}
        checks = []
        for index, step in enumerate(watch(steps, len(steps))):
            node = step.node
            operator = ops.find(node.qualified, graph.opset(node.domain))
            assert operator is not None, node
            results = ops.compute(operator, node, [values[n] if n else None for n in node.inputs])
            made = {n: np.asarray(a) for n, a in zip(node.outputs, results, strict=False) if n}
            checks.append(self._check(step, values, made))
            values |= made
            for name in {*node.inputs, *node.outputs}:
                if last[name] == index and name not in graph.outputs:
                    values.pop(name, None)
        return tuple(checks), {name: values[name] for name in graph.outputs}

    def _check(
        self, step: Step, values: Mapping[str, Array], expected: Mapping[str, Array]
    ) -> NodeCheck:
        worst, problem = None, step.reason
        if isinstance(step, DeviceStep):
            worst, problem = self._compare(step, values, expected)
        graph, node = self.plan.graph, step.node
        return NodeCheck(
            node.name or node.outputs[0],
            node.qualified,
            "host" if isinstance(step, HostStep) else "device",
            () if isinstance(step, HostStep) else step.algorithms,
            _specs(graph, node.inputs),
            _specs(graph, node.outputs),
            worst,
            self.accepted(expected, () if isinstance(step, HostStep) else step.algorithms),
            problem,
        )

    def _compare(
        self, step: DeviceStep, values: Mapping[str, Array], expected: Mapping[str, Array]
    ) -> tuple[float | None, str]:
        alone = isolate(self.plan.graph, step.node)
        try:
            target = self.plan.target
            made = plan(alone, target, records=stored(target))
            found = run_alone(made, self.device.opencl(), self.weights, values)
        except (DeviceError, MemoryLimitError) as error:
            return None, error.message
        laid_out = {n: as_stored(a, alone.values[n].layout) for n, a in expected.items()}
        return max(difference(found[name], laid_out[name]) for name in alone.outputs), ""

    def accepted(self, names: Iterable[str], algorithms: Iterable[str]) -> float:
        """The tolerance of values that these kernels made."""
        if self.tolerance is not None:
            return self.tolerance
        kernels = tuple(algorithms)
        return max(tolerance_of(self.plan.graph.values[name].dtype, kernels) for name in names)


def _onnx_file(model: str | Path) -> Path:
    from rekindle.hub import resolve

    path = resolve(str(model)).path
    framework = detect(path)
    if framework == "onnx":
        return path
    from rekindle.runtime.export.onnx import to_onnx

    return to_onnx(path, framework)


def _specs(graph: Graph, names: Iterable[str]) -> tuple[TensorSpec, ...]:
    values = (graph.values[name] for name in names if name)
    return tuple(TensorSpec(v.name, v.dtype, v.shape or ()) for v in values)


def _badness(check: NodeCheck) -> float:
    return float("inf") if check.difference is None else check.difference / check.tolerance


def _facts(check: NodeCheck) -> dict[str, Any]:
    specs = {
        kind: [
            {"name": s.name, "dtype": str(s.dtype), "shape": list(s.shape)}
            for s in getattr(check, kind)
        ]
        for kind in ("inputs", "outputs")
    }
    return vars(check) | specs | {"differs": check.differs}
