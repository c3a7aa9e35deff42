"""Start-up: from a new process to the first result, with cold and with warm caches.

    python benchmarks/startup.py PHOTO [--repeats 15] [--folder FOLDER]

Whole processes, wall clock, start to exit: `import rekindle`, and `rekindle classify` with a warm
cache, in turn, after one warm-up run of each. Then networks of the zoo, whose process tells its
stages itself (startup_stages.py): *cold* with empty cache folders, Rekindle's and PoCL's, *warm*
with those that the cold run has filled. Last, how programs are built best: all kernels of a
network in one, or each in its own, by one thread or two. Writes benchmarks/results/startup.json;
wants a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import describe
from speed import FOLDER
from speed_models import find

HERE = Path(__file__).parent
RESULT = HERE / "results" / "startup.json"
NETWORKS = ("resnet50", "mobilenet_v2", "bert_small")
BUILDS = ("together", "singly", "singly, two threads")


def seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def processes(photo: str, repeats: int) -> dict[str, dict[str, float]]:
    python = sys.executable
    rekindle = str(Path(python).with_name("rekindle"))
    commands = {
        "python": (python, "-c", "pass"),
        "import rekindle": (python, "-c", "import rekindle"),
        "classify on opencl": (rekindle, "classify", photo, "--provider", "opencl"),
    }
    for command in commands.values():
        seconds(*command)
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            spent[name].append(seconds(*command))
    return {
        name: {"median_s": statistics.median(s), "min_s": min(s), "max_s": max(s)}
        for name, s in spent.items()
    }


def network(name: str, folder: Path, colds: int, warms: int) -> dict[str, Any]:
    """Medians of the stages of cold and of warm processes."""
    path, _ = find(name, 1, folder)
    cold, warm = [], []
    for _ in range(colds):
        with tempfile.TemporaryDirectory() as caches:
            cold.append(stages(path, Path(caches)))
            warm += [stages(path, Path(caches)) for _ in range(-(-warms // colds))]
    return {"model": name, "cold": _medians(cold), "warm": _medians(warm)}


def stages(path: Path, caches: Path, *arguments: str) -> dict[str, float]:
    """What startup_stages.py tells of itself, and the whole process."""
    folders = {
        "REKINDLE_CACHE_DIR": str(caches / "rekindle"),
        "POCL_CACHE_DIR": str(caches / "pocl"),
    }
    Path(folders["POCL_CACHE_DIR"]).mkdir(exist_ok=True)
    command = (sys.executable, str(HERE / "startup_stages.py"), str(path), *arguments)
    start = time.perf_counter()
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | folders
    )
    whole = time.perf_counter() - start
    return {**json.loads(done.stdout.splitlines()[-1]), "process_s": whole}


def builds(name: str, folder: Path, repeats: int) -> dict[str, float]:
    """Seconds until every kernel of a network is built, by way of building, caches empty."""
    path, _ = find(name, 1, folder)
    spent: dict[str, list[float]] = {way: [] for way in BUILDS}
    for _ in range(repeats):
        for way in BUILDS:
            with tempfile.TemporaryDirectory() as caches:
                found = stages(path, Path(caches), "--build", way)
            spent[way].append(found["build_s"])
    return {way: statistics.median(s) for way, s in spent.items()}


def _medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the exported networks")
    options = parser.parse_args()
    # An installed package has its bytecode; with this, every process would compile the sources.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    figures = processes(options.photo, options.repeats)
    for name, row in figures.items():
        print(f"{name:20} median {row['median_s'] * 1e3:7.0f} ms", end=" ")
        print(f"({row['min_s'] * 1e3:.0f} to {row['max_s'] * 1e3:.0f})")
    rows = []
    for name in NETWORKS:
        rows.append(network(name, options.folder, 3, options.repeats))
        for kind in ("cold", "warm"):
            row = rows[-1][kind]
            print(
                f"{name:20} {kind}: {row['ready_s']:.2f} s to the first result, of them "
                f"{row['read_s']:.2f} reading the file; {row['programs']:.0f} kernels"
            )
    ways = {name: builds(name, options.folder, 3) for name in ("resnet50", "mobilenet_v2")}
    print(ways)
    record = {
        "machine": describe(), "repeats": options.repeats, "processes": figures,
        "networks": rows, "builds": ways,
    }  # fmt: skip
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
