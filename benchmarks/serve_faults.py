"""Overload, and workers that are killed or stopped: what callers see, and for how long."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from serve_load import GrpcClient, HttpClient, Outcomes, grpc_request, http_request, open_loop
from serve_process import Serving, launch_bound, put, serving

NAME = "deep"
QUEUE = 32
DEADLINE_S = 2.0
GIVE_UP_S = 60.0
CLIENTS = 8
X = np.ones((1, 256), np.float32)


def overload(seconds: float) -> dict[str, Any]:
    """Ten times what the model can do, over each protocol: statuses, p99, memory."""
    with tempfile.TemporaryDirectory() as text:
        put(Path(text), NAME, launch_bound(256, 300)[0])
        options = ("--max-batch", "1", "--max-queue", str(QUEUE))
        with serving(Path(text), *options) as server:
            return asyncio.run(_overload(server, seconds))


async def _overload(server: Serving, seconds: float) -> dict[str, Any]:
    timeout_us = int(DEADLINE_S * 1e6)
    over_http, over_grpc = HttpClient(server.http), GrpcClient(server.grpc)
    asks = {
        "gRPC": over_grpc.asking(grpc_request(NAME, X, timeout_us), DEADLINE_S),
        "HTTP binary": over_http.asking(f"/v2/models/{NAME}/infer", *http_request(X, timeout_us)),
    }
    capacity = 1 / float(np.median([await _seconds(asks["gRPC"]) for _ in range(50)]))
    found: dict[str, Any] = {}
    for protocol, ask in asks.items():
        await open_loop(ask, 10 * capacity, seconds / 2)  # caches of every size are made
        before = server.resident_bytes()
        seen = await open_loop(ask, 10 * capacity, seconds)
        found[protocol] = {
            "statuses": dict(seen.statuses),
            "accepted_per_second": len(seen.latencies_s) / seconds,
            "p50_ms": seen.percentile_ms(50),
            "p99_ms": seen.percentile_ms(99),
            "memory_before_bytes": before,
            "memory_after_bytes": server.resident_bytes(),
        }
    await over_http.close()
    await over_grpc.close()
    return {
        "capacity_per_second": capacity,
        "max_queue": QUEUE,
        "deadline_s": DEADLINE_S,
        "protocols": found,
    }


async def _seconds(ask: Any) -> float:
    begun = time.perf_counter()
    await ask()
    return time.perf_counter() - begun


def recovery() -> dict[str, Any]:
    """A worker is killed, or stopped: requests that failed, and seconds until all is well."""
    found = {}
    for word, number in (("SIGKILL", signal.SIGKILL), ("SIGSTOP", signal.SIGSTOP)):
        with tempfile.TemporaryDirectory() as text:
            put(Path(text), NAME, launch_bound()[0])
            with serving(Path(text), "--isolation", "process") as server:
                found[word] = asyncio.run(_lose_worker(server, number))
    return found


async def _lose_worker(server: Serving, number: int) -> dict[str, Any]:
    client = GrpcClient(server.grpc)
    ask = client.asking(grpc_request(NAME, np.ones((1, 128), np.float32)))
    outcomes, done = Outcomes(), False

    async def asking() -> None:
        while not done:
            begun = time.perf_counter()
            outcomes.add(await ask(), begun)

    running = [asyncio.create_task(asking()) for _ in range(CLIENTS)]
    await asyncio.sleep(1.0)
    lost = time.perf_counter()
    os.kill(server.workers()[0], number)
    unready_s = await _until(server, lost, ready=False)
    ready_s = await _until(server, lost, ready=True)
    await asyncio.sleep(0.5)
    done = True
    await asyncio.gather(*running)
    await client.close()
    at = lost - outcomes.started
    failed = max((end for end, _ in outcomes.failed_s), default=at)
    first = min(end for end in outcomes.finished_s if end > failed)
    return {
        "clients": CLIENTS,
        "failed": sum(n for status, n in outcomes.statuses.items() if status != "OK"),
        "statuses": dict(outcomes.statuses),
        "unready_after_s": unready_s,
        "ready_after_s": ready_s,
        "answers_again_after_s": first - at,
    }


async def _until(server: Serving, since: float, *, ready: bool) -> float | None:
    """Seconds until the server says so; None: it never did (a short outage can be missed)."""
    import aiohttp

    async with aiohttp.ClientSession(f"http://{server.http}") as session:
        while time.perf_counter() - since < (GIVE_UP_S if ready else 15.0):
            async with session.get("/v2/health/ready") as answer:
                if (answer.status == 200) is ready:
                    return time.perf_counter() - since
            await asyncio.sleep(0.01)
    return None
