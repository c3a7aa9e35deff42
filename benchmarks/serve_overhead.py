"""What serving adds to `session.run`: the same model in process, over gRPC and over HTTP.

    python benchmarks/serve_overhead.py [--repeats 400] [--isolation process]

One client that asks one thing after another, with tritonclient; client, server and model share
the machine. Rounds of each path in turn; overhead is the difference of the medians. Two models
that hardly compute: 8 numbers in and out, and a picture of 1x3x224x224 (602 KB) of which the mean
comes back. Writes benchmarks/results/serve_overhead.json.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from machine import describe
from onnx import TensorProto, helper

from rekindle.runtime import open_session

RESULT = Path(__file__).parent / "results" / "serve_overhead.json"
ROUND = 20
"""Requests of one path before the next path's turn."""
SHAPES = {"8 numbers": (1, 8), "602 KB": (1, 3, 224, 224)}


def network(shape: tuple[int, ...]) -> bytes:
    axes = list(range(1, len(shape))) if len(shape) > 2 else []
    op = (
        helper.make_node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=1)
        if axes
        else helper.make_node("Neg", ["x"], ["y"])
    )
    out = ["N", *([1] * len(axes))] if axes else ["N", *shape[1:]]
    graph = helper.make_graph(
        [op],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
    )
    opset = [helper.make_opsetid("", 13)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    return data


@contextmanager
def serving(folder: Path, isolation: str) -> Iterator[tuple[str, str]]:
    """A server process; its HTTP and gRPC addresses."""
    command = [
        sys.executable, "-m", "rekindle.cli", "serve", str(folder), "--http-port", "0",
        "--grpc-port", "0", "--isolation", isolation, "--provider", "onnxruntime",
        "--threads", "1",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    found: list[str] = []
    for line in process.stderr:
        if match := re.match(r"(?:REST +http://|gRPC +)(\S+)", line):
            found.append(match[1])
        if line.startswith("Next"):
            break
    threading.Thread(target=process.stderr.read, daemon=True).start()  # access lines
    try:
        yield found[0], found[1]
    finally:
        process.terminate()
        process.wait(timeout=60)


def paths(name: str, x: Any, session: Any, http: Any, grpc: Any) -> dict[str, Callable[[], Any]]:
    def request(module: Any) -> list[Any]:
        made = module.InferInput("x", list(x.shape), "FP32")
        made.set_data_from_numpy(x)
        return [made]

    over = {"gRPC": (grpc, over_grpc), "HTTP binary": (http, over_http)}
    calls: dict[str, Callable[[], Any]] = {"session.run": lambda: session.run({"x": x})["y"]}
    for label, (client, module) in over.items():
        calls[label] = lambda c=client, m=module: c.infer(name, request(m)).as_numpy("y")
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--isolation", default="process")
    options = parser.parse_args()
    figures: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        names = {}
        for k, (label, shape) in enumerate(SHAPES.items()):
            path = Path(folder) / f"probe{k}" / "1" / "model.onnx"
            path.parent.mkdir(parents=True)
            path.write_bytes(network(shape))
            names[label] = path
        with (
            serving(Path(folder), options.isolation) as (http, grpc),
            over_http.InferenceServerClient(http) as first,
            over_grpc.InferenceServerClient(grpc) as second,
        ):
            for label, path in names.items():
                figures[label] = measure(path, SHAPES[label], first, second, options.repeats)
    record = {"machine": describe(), "isolation": options.isolation,
              "repeats": options.repeats, "paths": figures}  # fmt: skip
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for label, rows in figures.items():
        for path, row in rows.items():
            extra = f"overhead {row['overhead_ms']:.2f} ms" if "overhead_ms" in row else ""
            print(f"{label:10} {path:12} p50 {row['p50_ms']:.2f} p99 {row['p99_ms']:.2f} {extra}")


def measure(
    path: Path, shape: tuple[int, ...], http: Any, grpc: Any, repeats: int
) -> dict[str, dict[str, float]]:
    x = np.random.default_rng(0).random(shape, np.float32)
    with open_session(path, provider="onnxruntime", threads=1) as session:
        calls = paths(path.parents[1].name, x, session, http, grpc)
        expected = calls["session.run"]()
        spent: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            for _ in range(2 * ROUND):  # waiting in vain is unlearnt, caches are warm
                np.testing.assert_allclose(call(), expected, rtol=1e-5)
        for _ in range(repeats // ROUND):
            for name, call in calls.items():
                for _ in range(ROUND):
                    start = time.perf_counter()
                    call()
                    spent[name].append((time.perf_counter() - start) * 1e3)
    base = statistics.median(spent["session.run"])
    rows = {}
    for name, times in spent.items():
        median = statistics.median(times)
        rows[name] = {"p50_ms": median, "p99_ms": statistics.quantiles(times, n=100)[98]}
        if name != "session.run":
            rows[name]["overhead_ms"] = median - base
    return rows


if __name__ == "__main__":
    main()
