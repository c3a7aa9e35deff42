"""What tuning is worth: the heuristics' choice against the fastest variant found, by network.

    python benchmarks/tuning.py [--budget 5m] [--models resnet18 ...] [--cache FOLDER]

Runs `rekindle tune` on each network and product, with the kernels and records of one folder of its
own: run it again to go on. Writes benchmarks/results/tuning.json; networks that are not asked for
keep their figures. The system's load at the end is stored, too: where other work shared the
machine, only the ratios count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import describe
from speed_models import find

HERE = Path(__file__).parent
RESULT = HERE / "results" / "tuning.json"
NETWORKS = ("resnet18", "mobilenet_v2", "squeezenet")
PRODUCTS = ("256,256,256", "512,512,512", "1024,1024,1024", "128,768,768", "1,1000,512")


def tune(cache: Path, budget: str, *arguments: str) -> dict[str, Any]:
    """The document of one `rekindle tune --json`."""
    command = (sys.executable, "-m", "rekindle.cli", "tune", *arguments)
    done = subprocess.run(
        (*command, "--budget", budget, "--json"),
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "REKINDLE_CACHE_DIR": str(cache)},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """What is kept of it: the figures and the five greatest gains."""
    rows = [row for row in found["layers"] if row["gain"] is not None]
    best = sorted(rows, key=lambda row: -row["gain"])[:5]
    return {
        "layers": sum(len(row["layers"]) for row in found["layers"]),
        "classes": len(found["layers"]),
        "classes_measured": len(rows),
        "variants_measured": sum(row["measured"] for row in found["layers"]),
        "variants": sum(row["space"] for row in found["layers"]),
        "geometric_mean_gain": found["geometric_mean_gain"],
        "wrong": len(found["wrong"]),
        "broken": len(found["broken"]),
        "whole_model": found["whole_model"],
        "greatest_gains": [
            {key: row[key] for key in ("workload", "heuristic", "tuned", "heuristic_s", "gain")}
            for row in best
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=[*NETWORKS, "products"])
    parser.add_argument("--budget", default="5m", help="for each network, and for the products")
    parser.add_argument("--cache", type=Path, default=HERE.parent / "runs" / "tuning")
    options = parser.parse_args()
    stored = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    runs = stored.get("runs", {})
    for name in options.models:
        if name == "products":
            arguments = [part for size in PRODUCTS for part in ("--gemm", size)]
        else:
            arguments = [str(find(name, 1, options.cache / "models")[0])]
        found = tune(options.cache, options.budget, *arguments)
        load = os.getloadavg()[0]
        runs[name] = summary(found) | {"load": round(load, 1)}
        stored = {
            "machine": describe(),
            "device": {key: found[key] for key in ("device", "driver", "compute_units")},
            "budget": options.budget,
            "runs": runs,
        }
        RESULT.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
        whole = runs[name]["whole_model"]
        ratio = f", whole model {whole['ratio']:.3f}" if whole else ""
        print(f"{name}: kernels {runs[name]['geometric_mean_gain']:.3f} times as fast{ratio}")


if __name__ == "__main__":
    main()
