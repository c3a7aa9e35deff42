"""What serving adds to `session.run`: the same model in process, over gRPC and over HTTP.

One client that asks one thing after another, with tritonclient, as users do; client, server and
model share the machine. Rounds of each path in turn; overhead is the difference of the medians.
Two models that hardly compute: 8 numbers in and out, and a picture of 1x3x224x224 (602 KB) of
which the mean comes back.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from onnx import helper
from serve_process import model, put, serving

from rekindle.runtime import open_session

ROUND = 20
"""Requests of one path before the next path's turn."""
SHAPES = {"8 numbers": (1, 8), "602 KB": (1, 3, 224, 224)}


def measure(repeats: int, isolation: str) -> dict[str, Any]:
    """For each model and path: p50 and p99 in ms, and what p50 is above `session.run`."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        files = {
            label: put(folder, f"probe{k}", _network(shape))
            for k, (label, shape) in enumerate(SHAPES.items())
        }
        with (
            serving(folder, "--isolation", isolation) as server,
            over_http.InferenceServerClient(server.http) as http,
            over_grpc.InferenceServerClient(server.grpc) as grpc,
        ):
            for label, path in files.items():
                figures[label] = _one(path, SHAPES[label], http, grpc, repeats)
    return {"isolation": isolation, "repeats": repeats, "paths": figures}


def show(figures: dict[str, Any]) -> None:
    for label, rows in figures["paths"].items():
        for path, row in rows.items():
            extra = f"overhead {row['overhead_ms']:.2f} ms" if "overhead_ms" in row else ""
            print(f"{label:10} {path:12} p50 {row['p50_ms']:.2f} p99 {row['p99_ms']:.2f} {extra}")


def _network(shape: tuple[int, ...]) -> bytes:
    axes = list(range(1, len(shape))) if len(shape) > 2 else []
    if axes:
        node = helper.make_node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=1)
        return model([node], ["N", *shape[1:]], ["N", *([1] * len(axes))], {})
    return model([helper.make_node("Neg", ["x"], ["y"])], ["N", *shape[1:]], ["N", *shape[1:]], {})


def _one(
    path: Path, shape: tuple[int, ...], http: Any, grpc: Any, repeats: int
) -> dict[str, dict[str, float]]:
    x = np.random.default_rng(0).random(shape, np.float32)
    with open_session(path, provider="onnxruntime", threads=1) as session:
        calls = _paths(path.parents[1].name, x, session, http, grpc)
        expected = calls["session.run"]()
        spent: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            for _ in range(2 * ROUND):  # waiting in vain is unlearnt, caches are warm
                np.testing.assert_allclose(call(), expected, rtol=1e-5)
        for _ in range(max(repeats // ROUND, 1)):
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


def _paths(name: str, x: Any, session: Any, http: Any, grpc: Any) -> dict[str, Callable[[], Any]]:
    def request(module: Any) -> list[Any]:
        made = module.InferInput("x", list(x.shape), "FP32")
        made.set_data_from_numpy(x)
        return [made]

    over = {"gRPC": (grpc, over_grpc), "HTTP binary": (http, over_http)}
    calls: dict[str, Callable[[], Any]] = {"session.run": lambda: session.run({"x": x})["y"]}
    for label, (client, module) in over.items():
        calls[label] = lambda c=client, m=module: c.infer(name, request(m)).as_numpy("y")
    return calls
