"""What serving adds to `session.run`: the same model in process, over gRPC and over HTTP.

One client that asks one thing after another, with tritonclient, as users do; client, server and
model share the machine. Rounds of each path in turn; overhead is the difference of the medians.
Beside it a bare FastAPI and grpc.aio server without anything behind it, asked in the same rounds:
what the libraries, the client and the machine cost by themselves.
Two models that hardly compute: 8 numbers in and out, and a picture of 1x3x224x224 (602 KB) of
which the mean comes back.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from onnx import helper
from serve_process import model, put, serving

from rekindle.runtime import open_session
from rekindle.serve import heap

ROUND = 20
"""Requests of one path before the next path's turn."""
PROTOCOLS = ("gRPC", "HTTP binary")
SHAPES = {"8 numbers": (1, 8), "602 KB": (1, 3, 224, 224)}


def measure(repeats: int, isolation: str) -> dict[str, Any]:
    """For each model and path: p50 and p99 in ms, and what p50 is above `session.run`."""
    figures: dict[str, Any] = {}
    heap.keep_freed()  # else the client's page faults, 2 ms for 602 KB, would count as the server's
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        files = {
            label: put(folder, f"probe{k}", network(shape))
            for k, (label, shape) in enumerate(SHAPES.items())
        }
        with (
            serving(folder, "--isolation", isolation) as server,
            bare() as bare_addresses,
            clients(server.http, server.grpc) as ours,
            clients(*bare_addresses) as theirs,
        ):
            over = dict(zip(PROTOCOLS, ours, strict=True)) | {
                f"bare {path}": client for path, client in zip(PROTOCOLS, theirs, strict=True)
            }
            for label, path in files.items():
                figures[label] = _one(path, SHAPES[label], over, repeats)
    return {"isolation": isolation, "repeats": repeats, "paths": figures}


@contextlib.contextmanager
def bare() -> Iterator[tuple[str, str]]:
    """The server of peers/bare.py: its addresses."""
    command = [sys.executable, str(Path(__file__).parent / "peers" / "bare.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        http, grpc = process.stdout.readline().split()
        yield f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def clients(http: str, grpc: str) -> Iterator[tuple[Any, Any]]:
    with (
        over_grpc.InferenceServerClient(grpc) as by_grpc,
        over_http.InferenceServerClient(http) as by_http,
    ):
        yield by_grpc, by_http


def show(figures: dict[str, Any]) -> None:
    for label, rows in figures["paths"].items():
        for path, row in rows.items():
            extra = f"overhead {row['overhead_ms']:.2f} ms" if "overhead_ms" in row else ""
            print(f"{label:10} {path:16} p50 {row['p50_ms']:.2f} p99 {row['p99_ms']:.2f} {extra}")


def network(shape: tuple[int, ...]) -> bytes:
    axes = list(range(1, len(shape))) if len(shape) > 2 else []
    if axes:
        node = helper.make_node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=1)
        return model([node], ["N", *shape[1:]], ["N", *([1] * len(axes))], {})
    return model([helper.make_node("Neg", ["x"], ["y"])], ["N", *shape[1:]], ["N", *shape[1:]], {})


def _one(
    path: Path, shape: tuple[int, ...], over: dict[str, Any], repeats: int
) -> dict[str, dict[str, float]]:
    x = np.random.default_rng(0).random(shape, np.float32)
    with open_session(path, provider="onnxruntime", threads=1) as session:
        calls = {"session.run": lambda: session.run({"x": x})["y"]} | {
            label: functools.partial(_ask, client, path.parents[1].name, x)
            for label, client in over.items()
        }
        expected = calls["session.run"]().mean()
        spent: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            for _ in range(2 * ROUND):  # waiting in vain is unlearnt, caches are warm
                np.testing.assert_allclose(abs(call().mean()), abs(expected), rtol=1e-5)
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


def _ask(client: Any, name: str, x: Any) -> Any:
    module = over_http if isinstance(client, over_http.InferenceServerClient) else over_grpc
    tensor = module.InferInput("x", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x)
    return client.infer(name, [tensor]).as_numpy("y")
