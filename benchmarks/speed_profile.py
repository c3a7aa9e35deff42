"""Where the time goes in networks that are not faster than they should be: their kernels.

    python benchmarks/speed_profile.py [MODEL:BATCH ...] [--runs 30]

Every launch is timed by an event, so the launches run one by one and not in one walk. Writes
benchmarks/results/speed_profile.json; cells that are not asked for keep their figures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from machine import describe
from speed import FOLDER
from speed_models import find

from rekindle.graph import onnx_io
from rekindle.runtime.profile import profile_model
from rekindle.runtime.profile_page import by_kernel

RESULT = Path(__file__).parent / "results" / "speed_profile.json"
CELLS = ("resnet50:1", "squeezenet:1", "bert_small:1", "vit_small:8", "gemm-512-weights:1")


def measure(model: str, batch: int, runs: int, folder: Path) -> dict[str, Any]:
    """The quickest run, what of it no kernel was running, and the kernels by their time."""
    path, feeds = find(model, batch, folder)
    found = profile_model(onnx_io.load(path), feeds, None, runs)
    total = found.seconds("kernel")
    return {
        "run_ms": found.run_s * 1e3,
        "kernels_ms": total * 1e3,
        "launches": len(found.launches),
        "peak_gflops": found.peaks.flops_s / 1e9,
        "kernels": [
            {
                "kernel": row.kernel,
                "launches": row.launches,
                "share": row.seconds / total,
                "gflops": row.flops / row.seconds / 1e9,
                "gbytes_s": row.moved_bytes / row.seconds / 1e9,
                "roofline": row.roofline,
            }
            for row in by_kernel(found.launches)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", default=CELLS, metavar="MODEL:BATCH")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    record = json.loads(RESULT.read_text()) if RESULT.exists() else {"cells": {}}
    for cell in options.cells:
        model, _, batch = cell.partition(":")
        found = measure(model, int(batch or 1), options.runs, options.folder)
        record["cells"][cell] = found | {"machine": describe()}
        first = found["kernels"][0]
        print(f"{cell:20} {found['kernels_ms']:8.2f} ms  {first['kernel']} {first['share']:.0%}")
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
