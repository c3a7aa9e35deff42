"""`make isa`: the kernels that the benchmark set would run on an RX 580, as real instructions.

    python benchmarks/isa.py [--models resnet18,…] [--json FILE]

Plans every network for an RX 580 at batch 1 and 8, compiles each kernel variant for gfx803, and
holds it against what its spec promises; no OpenCL device takes part. With --json the counts are
also written into the package, for `rekindle estimate`. Exit code 1 where a promise is broken, 0
with a message where clang-19 is not installed (1 where REKINDLE_REQUIRE_TOOLS is set: then also
where the package's counts were made of other sources).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from machine import describe
from speed import FOLDER
from speed_models import NETWORKS, PRODUCTS, find

from rekindle import _config
from rekindle.device.architectures import architecture, target_from
from rekindle.engine.isa import table
from rekindle.engine.isa.assembly import available, version
from rekindle.engine.isa.report import Report, Row, by_kernel, compiled, report
from rekindle.engine.kernels import REGISTRY, Launch
from rekindle.engine.plan import HostStep, Plan, plan
from rekindle.engine.prediction.estimate import estimate_plan
from rekindle.engine.prediction.rates import of_card
from rekindle.engine.selftest_cases import cases
from rekindle.graph import onnx_io, passes
from rekindle.runtime.providers.opencl import plan_for

CARD = "rx580"
BATCHES = (1, 8)
NARROW = ("fp16", "int8w")
NARROWED = ("resnet50", "mobilenet_v2", "efficientnet_b0", "vit_small", "bert_small", "sd_unet")
"""Networks whose narrow variants are judged, and known to `rekindle estimate`, too."""
OTHERS = ("densenet121", "resnet3d", "lstm")


def plans(models: Sequence[str], batches: Sequence[int] = BATCHES) -> dict[str, Plan]:
    made = {}
    for model in models:
        for batch in batches if model not in PRODUCTS else (1,):
            made[f"{model} x{batch}"] = planned(model, batch)
    return made


def planned(model: str, batch: int, precision: str = "model") -> Plan:
    path, feeds = find(model, batch, FOLDER)
    graph = passes.run(onnx_io.load(path), passes.portable(precision))
    shapes = {name: array.shape for name, array in feeds.items()}
    return plan_for(graph, target_from(CARD), shapes, precision)


def narrow(models: Sequence[str]) -> Iterator[Launch]:
    """Networks of floats as they run with narrow storage."""
    for model, precision in itertools.product(NARROWED, NARROW):
        if model in models:
            yield from planned(model, 1, precision).launches()


def unjudged() -> Iterator[Launch]:
    """Launches that no promise is checked for, but whose figures estimates want."""
    for model in OTHERS:
        yield from planned(model, 1).launches()
    card = target_from(CARD)
    for call in sorted({REGISTRY.get(name).call for name in REGISTRY.names()}):
        for case in cases(call, card):
            yield from plan(case.graph, card).launches()


def keep(judged: Report) -> bool:
    """Write the table that the package carries; False where the one there was of other sources."""
    before = table.table() if table.PATH.exists() else None
    made = {key: (row.launch, row.figures) for key, row in judged.rows.items()}
    made |= compiled(unjudged())
    document = table.document_of(
        ((key, launch, figures) for key, (launch, figures) in made.items()), version()
    )
    table.write(document)
    return before is not None and all(map(before.is_fresh, document["sources"]))


def layers(plan: Plan) -> list[dict[str, Any]]:
    """Every launch of a plan with its estimated share of the card's peak, and its time."""
    rates = of_card(architecture(CARD))
    return [
        {
            "node": launch.node,
            "kernel": launch.kernel,
            "share": round(launch.cost.share, 4),
            "seconds": launch.seconds,
        }
        for launch in estimate_plan(plan, rates).launches
    ]


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """One line of the table: a kernel's variants together."""
    promise = REGISTRY.get(rows[0].kernel).isa
    # The sum of slices multiplies nothing, and says nothing of the kernel.
    shares = [
        row.share for row in rows if promise.share(row.launch.defines) or not promise.variants
    ]
    return {
        "variants": len(rows),
        "multiply_adds": [round(min(shares), 3), round(max(shares), 3)],
        "floor": promise.multiply_adds,
        "floors": {f"{name}={value}": f.share for (name, value), f in promise.variants.items()},
        "lower": {f"{name}={value}": f.reason for (name, value), f in promise.variants.items()},
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
    models, peak = {}, architecture(CARD).fp32_flops
    for key, found_plan in made.items():
        rows = layers(found_plan)
        flops = sum(launch.flops for launch in found_plan.launches())
        seconds = sum(row["seconds"] for row in rows)
        slowest = sorted(rows, key=lambda row: -row["seconds"])[:5]
        models[key] = {
            "launches": len(rows),
            "host_steps": sum(isinstance(step, HostStep) for step in found_plan.steps),
            "gflop": round(flops / 1e9, 3),
            "ms": round(seconds * 1e3, 3),
            "share": round(flops / peak / seconds, 4),
            "slowest": [row | {"seconds": round(row["seconds"], 7)} for row in slowest],
        }
    rows_by_kernel = by_kernel(found.rows.values())
    return {
        "machine": describe(),
        "kernels": {name: summary(rows) for name, rows in rows_by_kernel.items()},
        "models": models,
    }


def history(path: Path, now: dict[str, Any]) -> list[dict[str, Any]]:
    """Estimates of earlier runs in the file: those that differ from the next one, and its own."""
    if not path.exists():
        return []
    before = json.loads(path.read_text(encoding="utf-8"))
    kept: list[dict[str, Any]] = before.get("history", [])
    models = {k: {n: m[n] for n in ("ms", "share")} for k, m in before["models"].items()}
    changed = any(
        now["models"][k]["ms"] != m["ms"] for k, m in models.items() if k in now["models"]
    )
    machine = {name: before["machine"][name] for name in ("commit", "date")}
    return [*kept, {"machine": machine, "models": models}] if changed else kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join((*NETWORKS, *PRODUCTS)))
    parser.add_argument("--json", type=Path, help="write the figures, for the docs")
    options = parser.parse_args()
    if not available():
        print("clang-19 with libclc is not installed: the kernels for gfx803 were not looked at")
        return int(_config.flag("REKINDLE_REQUIRE_TOOLS"))
    models = options.models.split(",")
    made = plans(models)
    plain = (launch for plan in made.values() for launch in plan.launches())
    found = report(itertools.chain(plain, narrow(models)))
    fresh = keep(found) if options.json else True
    table.table.cache_clear()
    written = document(made, found)
    if options.json:
        written["history"] = history(options.json, written)
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
    if not fresh:
        print(f"{table.PATH.name} was made of other kernels, and is written anew: commit it")
    return int(bool(broken) or (not fresh and _config.flag("REKINDLE_REQUIRE_TOOLS")))


if __name__ == "__main__":
    sys.exit(main())
