"""Load and unload a model again and again, over the wire, and watch the memory.

    python benchmarks/soak.py [--cycles 500] [--isolation process thread]

Ends with 1 where memory, descriptors or processes grow. The slope is a straight line through the
second half: caches and allocators fill up first.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from serve_process import Serving, launch_bound, put, serving

NAME = "launches"
ALLOWED_BYTES_PER_CYCLE = 20_000
"""A leaked session of this model would be 2 MB, a leaked mapping of a worker 1 MiB."""


def soak(isolation: str, cycles: int) -> dict[str, Any]:
    """Memory of server and workers after each cycle, and what was left open."""
    with tempfile.TemporaryDirectory() as text:
        put(Path(text), NAME, launch_bound()[0])
        options = ("--allow-model-control", "--isolation", isolation)
        with serving(Path(text), *options) as server:
            sizes: list[int] = []
            opened = children = 0
            for cycle in range(cycles):
                _cycle(server)
                sizes.append(server.resident_bytes())
                if cycle == cycles // 2:
                    opened, children = _descriptors(server), len(server.workers())
            half = np.array(sizes[cycles // 2 :], float)
            slope = float(np.polyfit(np.arange(len(half)), half, 1)[0])
            return {
                "isolation": isolation,
                "cycles": cycles,
                "first_bytes": sizes[0],
                "last_bytes": sizes[-1],
                "slope_bytes_per_cycle": slope,
                "descriptors": [opened, _descriptors(server)],
                "processes": [children, len(server.workers())],
            }


def flat(found: dict[str, Any]) -> bool:
    """Whether nothing has grown."""
    return (
        found["slope_bytes_per_cycle"] < ALLOWED_BYTES_PER_CYCLE
        and found["descriptors"][1] <= found["descriptors"][0] + 2
        and found["processes"][1] == found["processes"][0]
    )


def _cycle(server: Serving) -> None:
    """Unload, load, and one request, whose answer must be right."""
    _post(server, f"/v2/repository/models/{NAME}/unload", {})
    _post(server, f"/v2/repository/models/{NAME}/load", {})
    tensor = {"name": "x", "shape": [1, 128], "datatype": "FP32", "data": [0] * 128}
    answer = _post(server, f"/v2/models/{NAME}/infer", {"inputs": [tensor]})
    if answer["outputs"][0]["data"] != [0.0] * 128:
        raise RuntimeError(f"a wrong answer: {answer}")


def _post(server: Serving, path: str, document: dict[str, Any]) -> Any:
    data = json.dumps(document).encode()
    with urllib.request.urlopen(f"http://{server.http}{path}", data, 120) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def _descriptors(server: Serving) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=500)
    parser.add_argument("--isolation", nargs="+", default=["process", "thread"])
    options = parser.parse_args()
    good = True
    for isolation in options.isolation:
        found = soak(isolation, options.cycles)
        good = good and flat(found)
        print(json.dumps(found, indent=1), "flat" if flat(found) else "GROWS", flush=True)
    return int(not good)


if __name__ == "__main__":
    raise SystemExit(main())
