"""What `rekindle inspect` finds out: the graph's own figures, and a plan for a device."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rekindle import hub
from rekindle._errors import RekindleError, UsageError
from rekindle._types import Target, TensorSpec
from rekindle.cli._arrays import check_sizes, parse_sizes, with_batch
from rekindle.cli._page import amount, memory
from rekindle.device import select_device
from rekindle.device.architectures import architecture, target_from
from rekindle.engine.plan import HostStep, Plan
from rekindle.engine.streaming import residency
from rekindle.engine.transfers import transfers
from rekindle.graph import onnx_io, ops, passes
from rekindle.graph.cost import node_costs, parameter_count
from rekindle.graph.infer import bind
from rekindle.graph.ir import Graph, Node
from rekindle.graph.render import page
from rekindle.runtime._options import Options, Precision, check_precision, parse_bytes
from rekindle.runtime.framework import detect
from rekindle.runtime.placement import PlacedNode, Streaming
from rekindle.runtime.providers.opencl import Planner, tuned_plan_for


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
    provider: str = "opencl"
    """Or "hybrid"."""
    precision: Precision = "model"

    @classmethod
    def ask(
        cls,
        model: str,
        sizes: Sequence[str],
        device: str | None,
        card: str | None,
        provider: str = "opencl",
        precision: str = "model",
        batch: int | None = None,
    ) -> Question:
        """Load the model; raises what `hub.resolve` and `onnx_io.load` raise, and UsageError."""
        stored = check_precision(precision)
        if provider != "opencl":
            Options(precision=stored).refuse_precision(provider)
        path = hub.resolve(model).path
        framework = detect(path)
        source = path
        if framework != "onnx":
            from rekindle.runtime.export.onnx import to_onnx

            source = to_onnx(path, framework)
        graph = onnx_io.load(source, allow_unknown=True)
        specs = graph.input_specs()
        shapes = _concrete(specs, with_batch(specs, parse_sizes(sizes), batch))
        return cls(path, framework, graph, shapes, device, card, provider, stored)

    def target(self) -> Target:
        return target_from(self.card) if self.card else select_device(self.device).target()

    @functools.cached_property
    def planner(self) -> tuple[Planner, str]:
        """What plans, and what its decisions rest on; UsageError for a provider without plans."""
        if self.provider == "opencl":
            return functools.partial(tuned_plan_for, precision=self.precision), ""
        if self.provider != "hybrid":
            raise UsageError(
                f"there is no plan for --provider {self.provider}", hint="opencl or hybrid"
            )
        from rekindle.runtime.hybrid.calibration import assumed, calibration_for
        from rekindle.runtime.hybrid.measure import measure_processor
        from rekindle.runtime.hybrid.planner import Planner as HybridPlanner

        if self.card:
            costs = assumed(architecture(self.card), measure_processor())
        else:
            costs = calibration_for(select_device(self.device))
        return HybridPlanner(costs), f"estimates; rates {costs.source}"


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
        "plan": _plan_facts(plan, limit, question.planner[1]) if plan else None,
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
    host = {
        next(filter(None, node.outputs)): f"{reason}; by {'ONNX Runtime' if s.run else 'NumPy'}"
        for s in plan.steps
        if isinstance(s, HostStep)
        for node, reason in s.nodes
    }
    notes = {
        s.node.outputs[0]: "kernels: " + ", ".join(s.algorithms)
        for s in plan.steps
        if not isinstance(s, HostStep) and s.algorithms
    }
    facts |= {
        "planned for": plan.target.name,
        "device memory": memory(plan.device_bytes),
        "on the device": f"{_on_device(plan)} of {len(_steps(plan))} steps",
        "moved in a run": _moved(plan),
    }
    notes |= {name: f"on the host: {reason}" for name, reason in host.items()}
    title = f"{question.path.name} on {plan.target.name}"
    if question.provider == "hybrid":
        facts["colours"] = "red: device; blue: CPU; dashed lines: moved between them"
        facts["decided by"] = question.planner[1]
    by_side = question.provider == "hybrid"
    return page(whole(plan), title=title, facts=facts, notes=notes, host=host, by_side=by_side)


def whole(plan: Plan) -> Graph:
    """The plan's graph, with the nodes that other engines run in place of what stands for them."""
    graph = plan.graph.copy()
    nodes: list[Node] = []
    for step in plan.steps:
        if not isinstance(step, HostStep) or step.part is None:
            nodes.append(step.node)
            continue
        read = dict(zip(step.part.inputs, step.node.inputs, strict=True))
        for node in step.part.nodes:
            nodes.append(replace(node, inputs=tuple(read.get(n, n) for n in node.inputs)))
        graph.values |= {n: v for n, v in step.part.values.items() if n not in graph.values}
    graph.nodes = nodes
    return graph


def _on_device(plan: Plan) -> int:
    return sum(not isinstance(step, HostStep) for step in plan.steps)


def _moved(plan: Plan) -> str:
    moved = transfers(plan)
    up = [t.nbytes for t in moved if t.direction == "upload"]
    down = [t.nbytes for t in moved if t.direction == "download"]
    return (
        f"{len(up)} uploads of {amount(sum(up), 'B')}, "
        f"{len(down)} downloads of {amount(sum(down), 'B')}"
    )


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
        portable = passes.run(question.graph, passes.portable(question.precision))
        return question.planner[0](portable, target, question.shapes), None
    except RekindleError as error:
        if question.card or question.device or isinstance(error, UsageError):
            raise
        return None, f"{error.message}{_advice(question)}"


def _advice(question: Question) -> str:
    """What to say where sizes that nobody gave, and that were taken as 1, may be the reason."""
    named = left_open(question)
    if not named:
        return ""
    return " (give sizes: " + " ".join(f"--shape {dim}=SIZE" for dim in named) + ")"


def left_open(question: Question) -> list[str]:
    """Names of dimensions, batches aside, that are 1 because nobody gave another size."""
    shapes = question.shapes
    return list(
        dict.fromkeys(
            dim
            for spec in question.graph.input_specs()
            for dim, size in zip(spec.shape[1:], shapes[spec.name][1:], strict=True)
            if isinstance(dim, str) and size == 1
        )
    )


def _plan_facts(plan: Plan, limit: int | None, costs: str) -> dict[str, Any]:
    streaming = None
    if limit is not None:
        streaming = Streaming.of(residency(plan, limit), limit)
    return {
        "target": plan.target.name,
        "device_bytes": plan.device_bytes,
        "weight_bytes": plan.constant_bytes,
        "activation_bytes": plan.memory.arena_bytes,
        "streaming": streaming.to_dict() if streaming else None,
        "transfers": [vars(transfer) for transfer in transfers(plan)],
        "moved": _moved(plan),
        "costs": costs,
        "steps": _steps(plan),
    }


def _steps(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "node": placed.node,
            "operator": placed.op_type,
            "where": placed.where,
            "kernels": placed.kernels,
            "reason": placed.reason,
            "tuned": placed.tuned,
        }
        for step in plan.steps
        for placed in PlacedNode.of(step)
    ]
