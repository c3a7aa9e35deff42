"""Batching on against off: many clients of one row on a network that launches bound.

At the data plane, in process, and over gRPC. Beside the requests per second stand what explains
them: the time of a run at one row and at the batch, the mean batch size, and what the protocol
costs a request.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from serve_load import GrpcClient, closed_loop, grpc_request
from serve_process import launch_bound, put, serving

from rekindle.runtime import open_session
from rekindle.serve import DataPlane, InferRequest, Settings
from rekindle.serve.server import new_loop

CLIENTS = 64
MAX_BATCH = 32
NAME = "launches"


def measure(seconds: float, rounds: int) -> dict[str, Any]:
    """On and off in turn, `rounds` times each; medians."""
    data, size = launch_bound()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        path = put(folder, NAME, data)
        x = np.random.default_rng(1).random((1, 128), np.float32)
        plane: dict[str, list[Any]] = {"on": [], "off": []}
        over: dict[str, list[Any]] = {"on": [], "off": []}
        for _ in range(rounds):
            for word, rows in (("on", MAX_BATCH), ("off", 1)):
                plane[word].append(_run(_at_plane(folder, rows, x, seconds)))
                over[word].append(_over_grpc(folder, rows, x, seconds))
        return {
            "network": size,
            "clients": CLIENTS,
            "max_batch": MAX_BATCH,
            "run_ms": _service_times(path, x),
            "data plane": {word: _median(rows) for word, rows in plane.items()},
            "gRPC": {word: _median(rows) for word, rows in over.items()},
        }


def show(figures: dict[str, Any]) -> None:
    print(f"{figures['clients']} clients, {figures['network']}; a run: {figures['run_ms']}")
    for where in ("data plane", "gRPC"):
        for word, row in figures[where].items():
            print(f"{where:10} batching {word:3} {row['per_second']:7.0f}/s  "
                  f"p50 {row['p50_ms']:.2f} p99 {row['p99_ms']:.2f} ms  "
                  f"batch {row['mean_batch']:.1f}")  # fmt: skip
        ratio = figures[where]["on"]["per_second"] / figures[where]["off"]["per_second"]
        print(f"{where:10} {ratio:.2f} x")


def _run(work: Any) -> Any:
    with asyncio.Runner(loop_factory=new_loop()) as runner:
        return runner.run(work)


async def _at_plane(folder: Path, rows: int, x: Any, seconds: float) -> dict[str, float]:
    plane = DataPlane(
        Settings(folder, provider="onnxruntime", threads=1, max_batch=rows, isolation="thread")
    )
    await plane.fleet.start()

    async def ask() -> str:
        await plane.infer(InferRequest(NAME, {"x": x}))
        return "OK"

    await closed_loop(ask, CLIENTS, seconds / 4)
    counted = plane.statistics[NAME, "1"]
    before = counted.inference_count, counted.execution_count
    found = await closed_loop(ask, CLIENTS, seconds)
    after = counted.inference_count, counted.execution_count
    await plane.close()
    return _row(found, seconds, before, after)


def _over_grpc(folder: Path, rows: int, x: Any, seconds: float) -> dict[str, float]:
    async def load(address: str, spent_s: float) -> Any:
        client = GrpcClient(address)
        found = await closed_loop(client.asking(grpc_request(NAME, x)), CLIENTS, spent_s)
        await client.close()
        return found

    options = ("--max-batch", str(rows), "--isolation", "thread")
    with serving(folder, *options) as server:
        _run(load(server.grpc, seconds / 4))
        before = _counts(server.http)
        found = _run(load(server.grpc, seconds))
        after = _counts(server.http)
    return _row(found, seconds, before, after)


def _counts(http: str) -> tuple[int, int]:
    with urllib.request.urlopen(f"http://{http}/v2/models/{NAME}/stats") as answer:
        (row,) = json.loads(answer.read())["model_stats"]
    return row["inference_count"], row["execution_count"]


def _row(
    found: Any, seconds: float, before: tuple[int, int], after: tuple[int, int]
) -> dict[str, float]:
    if set(found.statuses) != {"OK"}:
        raise RuntimeError(f"not every request was answered: {dict(found.statuses)}")
    rows, runs = after[0] - before[0], after[1] - before[1]
    return {
        "per_second": len(found.latencies_s) / seconds,
        "p50_ms": found.percentile_ms(50),
        "p99_ms": found.percentile_ms(99),
        "mean_batch": rows / max(runs, 1),
    }


def _median(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def _service_times(path: Path, x: Any) -> dict[str, float]:
    """Milliseconds of a run in process, at one row and at a full batch; sizes in turn."""
    spent: dict[int, list[float]] = {1: [], MAX_BATCH: []}
    with open_session(path, provider="onnxruntime", threads=1) as session:
        feeds = {rows: {"x": np.repeat(x, rows, 0)} for rows in spent}
        for turn in range(220):
            for rows, feed in feeds.items():
                start = time.perf_counter()
                session.run(feed)
                if turn >= 20:
                    spent[rows].append((time.perf_counter() - start) * 1e3)
    return {f"{rows} rows": statistics.median(times) for rows, times in spent.items()}
