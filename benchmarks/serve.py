"""The server in figures: overhead, batching, overload, lost workers, and other servers.

    python benchmarks/serve.py [--quick] [--only overhead batching ...]

Everything runs on this one machine, clients, server and model together. Writes
benchmarks/results/serve.json, part by part, so that one part can be measured again.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import serve_batching
import serve_faults
import serve_overhead
import serve_peers
from machine import describe

RESULT = Path(__file__).parent / "results" / "serve.json"
VERSIONS = ("grpcio", "fastapi", "uvicorn", "tritonclient", "aiohttp")


def parts(quick: bool) -> dict[str, tuple[Callable[[], Any], Callable[[Any], None]]]:
    """Name → how it is measured, how it is shown."""
    seconds, rounds = (1.0, 1) if quick else (6.0, 3)
    repeats = 40 if quick else 1000
    return {
        "overhead": (lambda: serve_overhead.measure(repeats, "process"), serve_overhead.show),
        "batching": (lambda: serve_batching.measure(seconds, rounds), serve_batching.show),
        "overload": (lambda: serve_faults.overload(2 * seconds), show_plain),
        "recovery": (serve_faults.recovery, show_plain),
        "peers": (lambda: serve_peers.measure(seconds, rounds), serve_peers.show),
    }


def show_plain(figures: dict[str, Any]) -> None:
    print(json.dumps(figures, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short, and stores nothing")
    parser.add_argument("--only", nargs="+", choices=sorted(parts(True)), metavar="PART")
    options = parser.parse_args()
    record = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name, (measure, show) in parts(options.quick).items():
        if options.only and name not in options.only:
            continue
        print(f"== {name}", flush=True)
        figures = measure()
        show(figures)
        versions = {package: importlib.metadata.version(package) for package in VERSIONS}
        record[name] = {"machine": describe() | {"serving": versions}, "figures": figures}
        if not options.quick:
            RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
