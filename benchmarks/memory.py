"""The memory plan of every network of the zoo: for the RX 580 and for a CPU, batch 1 and 8.

    python benchmarks/memory.py [--models resnet18 ...] [--zoo FOLDER]

Plans only: no device is needed, and the figures are exact, the same on every machine. Writes
benchmarks/results/memory.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import zoo
from machine import describe

from rekindle._types import Target
from rekindle.device.architectures import target_from
from rekindle.engine.plan import HostStep, Plan
from rekindle.engine.streaming import least_bytes, residency
from rekindle.graph import onnx_io, passes
from rekindle.graph.ir import Graph
from rekindle.runtime.providers.opencl import plan_for

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "memory.json"
FILES = HERE.parent / "build" / "zoo"
TARGETS = {"RX 580": "rx580", "CPU (AVX2)": "cpu-avx2"}
BATCHES = (1, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=zoo.NAMES)
    parser.add_argument("--zoo", type=Path, default=FILES, help="folder of the exported files")
    options = parser.parse_args()
    targets = {name: target_from(key) for name, key in TARGETS.items()}
    rows = []
    for model in options.models:
        graph = passes.run(onnx_io.load(zoo.export(model, options.zoo)), passes.PORTABLE)
        for batch in BATCHES:
            shapes = {name: array.shape for name, array in zoo.feeds(model, batch).items()}
            for name, target in targets.items():
                rows.append(measure(model, batch, name, planned(graph, target, shapes)))
                show(rows[-1])
    if tuple(options.models) == zoo.NAMES:
        record = {"machine": describe(), "plans": rows}
        RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def planned(graph: Graph, target: Target, shapes: Mapping[str, tuple[int, ...]]) -> Plan:
    return plan_for(graph, target, shapes)


def measure(model: str, batch: int, target: str, plan: Plan) -> dict[str, object]:
    """All byte counts of a plan; `streamed` with half of the weights' bytes to spare."""
    memory, weights = plan.memory, plan.constant_bytes
    half = residency(plan, max(memory.arena_bytes + weights // 2, least_bytes(plan)))
    return {
        "model": model,
        "batch": batch,
        "target": target,
        "weight_bytes": weights,
        "peak_bytes": memory.arena_bytes,
        "lower_bound_bytes": memory.lower_bound_bytes,
        "sum_bytes": sum(memory.sizes.values()),
        "buffers": len(memory.sizes),
        "least_bytes": least_bytes(plan),
        "half_streamed_bytes": half.streamed_bytes,
        "steps": len(plan.steps),
        "host_steps": sum(isinstance(step, HostStep) for step in plan.steps),
    }


def show(row: dict[str, object]) -> None:
    ratio = row["peak_bytes"] / max(row["lower_bound_bytes"], 1)  # type: ignore[operator]
    print(
        f"{row['model']:20} x{row['batch']} {row['target']:10} weights {row['weight_bytes']:>13,} "
        f"peak {row['peak_bytes']:>13,} = {ratio:.3f} x the bound, sum {row['sum_bytes']:>14,}"
    )


if __name__ == "__main__":
    main()
