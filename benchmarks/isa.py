"""`make isa`: the kernels that the benchmark set would run on an RX 580, as real instructions.

    python benchmarks/isa.py [--models resnet18,…] [--json FILE]

Plans every network for an RX 580 at batch 1 and 8, compiles each kernel variant for gfx803, and
holds it against what its spec promises; no OpenCL device takes part. Exit code 1 where a promise
is broken, 0 with a message where clang-19 is not installed (1 where REKINDLE_REQUIRE_TOOLS is set).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import describe
from speed import FOLDER
from speed_models import NETWORKS, PRODUCTS, find

from rekindle import _config
from rekindle.device.architectures import target_from
from rekindle.engine.isa.assembly import available
from rekindle.engine.isa.report import Report, Row, by_kernel, report
from rekindle.engine.kernels import REGISTRY, Launch
from rekindle.engine.plan import HostStep, Plan
from rekindle.graph import onnx_io, passes
from rekindle.runtime.providers.opencl import plan_for

CARD = "rx580"
BATCHES = (1, 8)
LAUNCH_S = 8e-6
"""Assumed, from one dependent kernel to the next."""
BANDWIDTH = 220e9
"""Bytes a second that are planned on, of the card's 256e9."""
PEAK = 6.17e12


def plans(models: Sequence[str]) -> dict[str, Plan]:
    made = {}
    for model in models:
        for batch in BATCHES if model not in PRODUCTS else (1,):
            path, feeds = find(model, batch, FOLDER)
            graph = passes.run(onnx_io.load(path), passes.PORTABLE)
            shapes = {name: array.shape for name, array in feeds.items()}
            made[f"{model} x{batch}"] = plan_for(graph, target_from(CARD), shapes)
    return made


def layers(plan: Plan, found: Report) -> list[dict[str, Any]]:
    """Every launch of a plan with its predicted share of the card's peak, and its least time."""
    rows = []
    for step in plan.steps:
        if isinstance(step, HostStep):
            continue
        for launch in step.launches:
            share = found.share_of_peak(launch, plan.target)
            rows.append(
                {
                    "node": step.node.name or step.node.outputs[0],
                    "kernel": launch.chosen,
                    "share": round(share, 4),
                    "seconds": _seconds(launch, share),
                }
            )
    return rows


def _seconds(launch: Launch, share: float) -> float:
    """Arithmetic at the predicted share, or memory traffic, whichever takes longer."""
    arithmetic = launch.flops / (PEAK * share) if launch.flops and share > 0.01 else 0.0
    return max(arithmetic, launch.bytes_moved / BANDWIDTH) + LAUNCH_S


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """One line of the table: a kernel's variants together."""
    promise = REGISTRY.get(rows[0].kernel).isa
    shares = [row.figures.hot.share for row in rows]
    return {
        "variants": len(rows),
        "multiply_adds": [round(min(shares), 3), round(max(shares), 3)],
        "floor": promise.multiply_adds,
        "floors": {f"{name}={value}": v for (name, value), v in promise.variants.items()},
        "vgpr": max(row.figures.vgpr for row in rows),
        "sgpr": max(row.figures.sgpr for row in rows),
        "waves": min(row.waves for row in rows),
        "lds_bytes": max(row.figures.lds_bytes for row in rows),
        "scratch_bytes": max(row.figures.scratch_bytes for row in rows),
        "fma": max(row.figures.fma for row in rows),
        "multiplies": max(row.figures.multiplies for row in rows),
        "unkept": dict(promise.unkept),
    }


def document(made: dict[str, Plan], found: Report) -> dict[str, Any]:
    models = {}
    for key, plan in made.items():
        rows = layers(plan, found)
        flops = sum(launch.flops for launch in plan.launches())
        seconds = sum(row["seconds"] for row in rows)
        slowest = sorted(rows, key=lambda row: -row["seconds"])[:5]
        models[key] = {
            "launches": len(rows),
            "host_steps": sum(isinstance(step, HostStep) for step in plan.steps),
            "gflop": round(flops / 1e9, 3),
            "ms": round(seconds * 1e3, 3),
            "share": round(flops / PEAK / seconds, 4),
            "slowest": [row | {"seconds": round(row["seconds"], 7)} for row in slowest],
        }
    rows_by_kernel = by_kernel(found.rows.values())
    return {
        "machine": describe(),
        "kernels": {name: summary(rows) for name, rows in rows_by_kernel.items()},
        "models": models,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join((*NETWORKS, *PRODUCTS)))
    parser.add_argument("--json", type=Path, help="write the figures, for the docs")
    options = parser.parse_args()
    if not available():
        print("clang-19 with libclc is not installed: the kernels for gfx803 were not looked at")
        return int(_config.flag("REKINDLE_REQUIRE_TOOLS"))
    made = plans(options.models.split(","))
    found = report(launch for plan in made.values() for launch in plan.launches())
    written = document(made, found)
    if options.json:
        options.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    for name, line in written["kernels"].items():
        low, high = line["multiply_adds"]
        print(
            f"{name:18} {line['variants']:3} variants, multiply-adds {low:.0%} to {high:.0%}, "
            f"{line['vgpr']} VGPR, {line['waves']:g} waves, {line['scratch_bytes']} B scratch"
        )
    broken = list(found.broken())
    for row, rule, words in broken:
        print(f"{row.kernel} {dict(row.launch.defines)}: {rule}: {words}", file=sys.stderr)
    print(f"{len(found.rows)} variants compiled for gfx803; {len(broken)} promises broken")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
