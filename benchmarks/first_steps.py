"""How long the README's two commands take: `make demo` and `make test` in a clean clone.

    python benchmarks/first_steps.py

Clones this repository into a temporary folder, with an empty cache for kernels and models (pip's
own cache stays, and the network is this machine's). Writes benchmarks/results/first_steps.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from machine import describe

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "first_steps.json"


def minutes(folder: Path, target: str, environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(["make", target], cwd=folder, check=True, env=environment)
    return (time.perf_counter() - start) / 60


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "rekindle"
        subprocess.run(["git", "clone", "--quiet", HERE.parent, clone], check=True)
        environment = os.environ | {
            "REKINDLE_CACHE_DIR": f"{name}/cache",
            "POCL_CACHE_DIR": f"{name}/pocl",
        }
        environment.pop("REKINDLE_TEST_DATA", None)
        figures = {
            "make demo, first time": minutes(clone, "demo", environment),
            "make demo, second time": minutes(clone, "demo", environment),
            "make test, after make demo": minutes(clone, "test", environment),
        }
    record = {"machine": describe(), "minutes": figures}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for step, spent in figures.items():
        print(f"{step:30} {spent:5.1f} min")


if __name__ == "__main__":
    main()
