"""Start-up: `import rekindle`, and a second `rekindle classify` process with a warm cache.

    python benchmarks/startup.py PHOTO [--repeats 15]

Whole processes, wall clock, start to exit, after one warm-up run of each; the two kinds in turn.
Writes benchmarks/results/startup.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import describe

RESULT = Path(__file__).parent / "results" / "startup.json"


def seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    python = sys.executable
    rekindle = str(Path(python).with_name("rekindle"))
    commands = {
        "python": (python, "-c", "pass"),
        "import rekindle": (python, "-c", "import rekindle"),
        "classify on opencl": (rekindle, "classify", options.photo, "--provider", "opencl"),
    }
    for command in commands.values():
        seconds(*command)
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.repeats):
        for name, command in commands.items():
            spent[name].append(seconds(*command))
    figures = {
        name: {"median_s": statistics.median(s), "min_s": min(s), "max_s": max(s)}
        for name, s in spent.items()
    }
    record = {"machine": describe(), "repeats": options.repeats, "processes": figures}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for name, row in figures.items():
        print(f"{name:20} median {row['median_s'] * 1e3:7.0f} ms", end=" ")
        print(f"({row['min_s'] * 1e3:.0f} to {row['max_s'] * 1e3:.0f})")


if __name__ == "__main__":
    main()
