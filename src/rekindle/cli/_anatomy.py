"""What `rekindle inspect` finds out: the graph's own figures, and a plan for a device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rekindle import hub
from rekindle._errors import RekindleError, UsageError
from rekindle._types import Target, TensorSpec
from rekindle.cli._arrays import check_sizes, parse_sizes
from rekindle.cli._page import amount, memory
from rekindle.device import select_device
from rekindle.device.architectures import target_from
from rekindle.engine.plan import HostStep, Plan
from rekindle.engine.streaming import residency
from rekindle.graph import onnx_io, ops, passes
from rekindle.graph.cost import node_costs, parameter_count
from rekindle.graph.infer import bind
from rekindle.graph.ir import Graph
from rekindle.graph.render import page
from rekindle.runtime._options import parse_bytes
from rekindle.runtime.framework import detect
from rekindle.runtime.placement import Streaming
from rekindle.runtime.providers.opencl import plan_for


@dataclass(frozen=True)
class Question:
    """A loaded model, the concrete shapes to look at, and the device to plan for."""

    path: Path
    framework: str
    graph: Graph
    shapes: Mapping[str, tuple[int, ...]]
    device: str | None
    card: str | None
    """A key of the architecture table, for a device that is not here."""

    @classmethod
    def ask(
        cls, model: str, sizes: Sequence[str], device: str | None, card: str | None
    ) -> Question:
        """Load the model; raises what `hub.resolve` and `onnx_io.load` raise, and UsageError."""
        path = hub.resolve(model).path
        framework = detect(path)
        source = path
        if framework != "onnx":
            from rekindle.runtime.export.onnx import to_onnx

            source = to_onnx(path, framework)
        graph = onnx_io.load(source, allow_unknown=True)
        shapes = _concrete(graph.input_specs(), parse_sizes(sizes))
        return cls(path, framework, graph, shapes, device, card)

    def target(self) -> Target:
        return target_from(self.card) if self.card else select_device(self.device).target()


def _concrete(specs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Input shapes with dynamic dimensions as given, else 1."""
    check_sizes(specs, sizes, all_needed=False)
    return {
        s.name: tuple(d if isinstance(d, int) else sizes.get(d, 1) for d in s.shape) for s in specs
    }


def examine(
    question: Question, memory_limit: str | None = None
) -> tuple[dict[str, Any], Plan | None]:
    """The whole document and the plan. What cannot be found out is None, the reason beside it.

    MemoryLimitError where the model cannot run within a `memory_limit`.
    """
    limit = None if memory_limit is None else parse_bytes(memory_limit)
    graph = question.graph
    counts = Counter(node.qualified for node in graph.nodes)
    unsupported = sorted(
        {n.qualified for n in graph.nodes if ops.find(n.qualified, graph.opset(n.domain)) is None}
    )
    flops, moved_bytes, problem = _costs(question)
    unknown = f"operators that are not known: {', '.join(unsupported)}"
    plan, plan_problem = (None, unknown) if unsupported else _plan(question)
    total = None if flops is None else sum(flops.values())
    operators: list[dict[str, Any]] = [
        {"operator": name, "count": count, "flops": None if flops is None else flops[name]}
        for name, count in counts.items()
    ]
    document = {
        "path": question.path,
        "framework": question.framework,
        "opset": graph.opset(""),
        "file_bytes": question.path.stat().st_size,
        "parameters": parameter_count(graph),
        "inputs": [_spec(s) for s in graph.input_specs()],
        "outputs": [_spec(s) for s in graph.output_specs()],
        "shapes": question.shapes,
        "operators": sorted(operators, key=lambda o: (-(o["flops"] or 0), -o["count"])),
        "unsupported": unsupported,
        "flops": total,
        "moved_bytes": moved_bytes,
        "problem": problem,
        "plan": _plan_facts(plan, limit) if plan else None,
        "plan_problem": plan_problem,
    }
    return document, plan


def html_page(question: Question, document: Mapping[str, Any], plan: Plan | None) -> str:
    """One self-contained page: the graph as it would run, or as it is where there is no plan."""
    facts = {
        "file": f"{question.path.name}, {amount(document['file_bytes'], 'B')}",
        "format": f"{document['framework']}, opset {document['opset']}",
        "arithmetic": amount(document["flops"], "FLOP"),
    }
    if plan is None:
        return page(question.graph, title=question.path.name, facts=facts)
    host = {s.node.outputs[0]: s.reason for s in plan.steps if isinstance(s, HostStep)}
    notes = {
        s.node.outputs[0]: "kernels: " + ", ".join(s.algorithms)
        for s in plan.steps
        if not isinstance(s, HostStep) and s.algorithms
    }
    facts |= {
        "planned for": plan.target.name,
        "device memory": memory(plan.device_bytes),
        "on the device": f"{len(plan.steps) - len(host)} of {len(plan.steps)} steps",
    }
    notes |= {name: f"on the host: {reason}" for name, reason in host.items()}
    title = f"{question.path.name} on {plan.target.name}"
    return page(plan.graph, title=title, facts=facts, notes=notes, host=host)


def save_page(path: Path, text: str, option: str = "--html") -> None:
    """Write the page; UsageError where that cannot be done."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", hint=f"choose another {option}"
        ) from None


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": str(spec.dtype), "shape": spec.shape}


def _costs(question: Question) -> tuple[Counter[str] | None, int | None, str | None]:
    """FLOPs by operator and bytes read and written by all nodes, as the file has them."""
    try:
        costs = node_costs(bind(question.graph, question.shapes))
    except RekindleError as error:
        return None, None, f"{error.message}{_advice(question)}"
    flops: Counter[str] = Counter()
    for cost in costs:
        flops[cost.node.qualified] += cost.flops
    return flops, sum(c.bytes_read + c.bytes_written for c in costs), None


def _plan(question: Question) -> tuple[Plan | None, str | None]:
    """The plan; None and the reason where nobody asked for a device and there is none."""
    try:
        target = question.target()
        portable = passes.run(question.graph, passes.PORTABLE)
        return plan_for(portable, target, question.shapes), None
    except RekindleError as error:
        if question.card or question.device:
            raise
        return None, f"{error.message}{_advice(question)}"


def _advice(question: Question) -> str:
    """What to say where sizes that nobody gave, and that were taken as 1, may be the reason."""
    specs = question.graph.input_specs()
    named = [dim for spec in specs for dim in spec.shape[1:] if isinstance(dim, str)]
    if not named:
        return ""
    return " (give sizes: " + " ".join(f"--shape {dim}=SIZE" for dim in named) + ")"


def _plan_facts(plan: Plan, limit: int | None) -> dict[str, Any]:
    streaming = None
    if limit is not None:
        streaming = Streaming.of(residency(plan, limit), limit)
    return {
        "target": plan.target.name,
        "device_bytes": plan.device_bytes,
        "weight_bytes": plan.constant_bytes,
        "activation_bytes": plan.memory.arena_bytes,
        "streaming": streaming.to_dict() if streaming else None,
        "steps": _steps(plan),
    }


def _steps(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "node": step.node.name or step.node.outputs[0],
            "operator": step.node.qualified,
            "where": "host" if isinstance(step, HostStep) else "device",
            "kernels": () if isinstance(step, HostStep) else step.algorithms,
            "reason": step.reason,
        }
        for step in plan.steps
    ]
