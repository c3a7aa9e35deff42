"""A server's life under load, as a process with real clients: signals, faults, overload."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import LIMIT_S, affine, put

pytest.importorskip("tritonclient", reason="tritonclient is not installed")
pytest.importorskip("aiohttp", reason="aiohttp is not installed")
from serve_load import GrpcClient, HttpClient, Outcomes, grpc_request, http_request, open_loop
from serve_process import launch_bound, serving

X = np.array([[1, 2, 3]], np.float32)
GONE = ("ClientConnectorError", "ServerDisconnectedError", "ClientOSError", "CANCELLED")
"""How clients see that nobody listens any more."""


async def both(http: str, grpc: str, ask: Callable[[Any, str], Awaitable[None]]) -> None:
    """Run `ask` for each protocol, with a function that sends one request."""
    over_http, over_grpc = HttpClient(http), GrpcClient(grpc)
    x = np.ones((1, 128), np.float32)
    try:
        await asyncio.gather(
            ask(over_http.asking("/v2/models/deep/infer", *http_request(x)), "200"),
            ask(over_grpc.asking(grpc_request("deep", x)), "OK"),
        )
    finally:
        await over_http.close()
        await over_grpc.close()


@pytest.mark.slow
def test_sigterm_under_load_loses_no_accepted_request(tmp_path: Path) -> None:
    """What was there before the signal is answered; what comes later is answered or refused."""
    data, _ = launch_bound(128, 200)
    put(tmp_path, "deep", "1", data)
    with serving(tmp_path, "--isolation", "process", "--max-batch", "1") as server:
        sent: list[tuple[float, str, str]] = []
        signalled = [float("inf")]

        async def ask(send: Any, good: str) -> None:
            async def client() -> None:
                while True:
                    begun = time.monotonic()
                    status = await send()
                    sent.append((begun, status, good))
                    if begun > signalled[0] and status != good:
                        return

            await asyncio.gather(*(client() for _ in range(8)))

        async def scene() -> None:
            asking = asyncio.create_task(both(server.http, server.grpc, ask))
            while len(sent) < 64:
                await asyncio.sleep(0.01)
            os.kill(server.process.pid, signal.SIGTERM)
            signalled[0] = time.monotonic()
            await asyncio.wait_for(asking, LIMIT_S)

        asyncio.run(scene())
        assert server.process.wait(LIMIT_S) == 0
    # A request takes a moment to arrive: those of the last 100 ms may be refused, in words.
    accepted = [(status, good) for begun, status, good in sent if begun < signalled[0] - 0.1]
    assert len(accepted) > 40
    assert [row for row in accepted if row[0] != row[1]] == []
    sent_before = {status for begun, status, _ in sent if begun < signalled[0]}
    assert sent_before <= {"200", "OK", "503", "UNAVAILABLE"}
    later = {status for begun, status, _ in sent if begun >= signalled[0]}
    assert later <= sent_before | {"503", "UNAVAILABLE", *GONE}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_worker_fails_its_own_requests_only(tmp_path: Path, number: int) -> None:
    put(tmp_path, "affine", "1", affine())
    put(tmp_path, "other", "1", affine())
    clients = 8
    with serving(tmp_path, "--isolation", "process") as server:
        outcomes: dict[str, Outcomes] = {}
        done = False

        async def asking(name: str) -> None:
            outcomes[name] = found = Outcomes()
            over = GrpcClient(server.grpc)
            send = over.asking(grpc_request(name, X))

            async def client() -> None:
                while not done:
                    begun = time.perf_counter()
                    found.add(await send(), begun)

            await asyncio.gather(*(client() for _ in range(clients)))
            await over.close()

        async def scene() -> None:
            nonlocal done
            running = [asyncio.create_task(asking(name)) for name in ("affine", "other")]
            while any(sum(o.statuses.values()) < 50 for o in outcomes.values()) or not outcomes:
                await asyncio.sleep(0.01)
            os.kill(server.workers()[0], number)
            lost = time.perf_counter()
            first = outcomes["affine"]
            while not first.failed_s or (first.finished_s or [0])[-1] < first.failed_s[-1][0]:
                assert time.perf_counter() - lost < LIMIT_S
                await asyncio.sleep(0.05)
            done = True
            await asyncio.gather(*running)

        asyncio.run(scene())
    assert set(outcomes["other"].statuses) == {"OK"}
    failed = outcomes["affine"].statuses["UNAVAILABLE"]
    assert set(outcomes["affine"].statuses) == {"OK", "UNAVAILABLE"}
    assert 1 <= failed <= clients  # the batch in the worker; who waited is served by the next one


@pytest.mark.slow
def test_ten_times_too_many_requests_are_answered_or_refused(tmp_path: Path) -> None:
    data, _ = launch_bound(256, 400)
    put(tmp_path, "deep", "1", data)
    x = np.ones((1, 256), np.float32)
    options = ("--max-batch", "1", "--max-queue", "16", "--isolation", "process")
    with serving(tmp_path, *options) as server:

        async def flood() -> tuple[dict[str, Outcomes], list[int]]:
            over_http, over_grpc = HttpClient(server.http), GrpcClient(server.grpc)
            timeout_us = 2_000_000
            asks = {
                "http": over_http.asking("/v2/models/deep/infer", *http_request(x, timeout_us)),
                "grpc": over_grpc.asking(grpc_request("deep", x, timeout_us)),
            }
            alone = [await timed(asks["grpc"]) for _ in range(20)]
            capacity = 1 / float(np.median(alone))
            sizes, found = [], {}
            for _ in range(3):
                for protocol, ask in asks.items():
                    found[protocol] = await open_loop(ask, 10 * capacity, 1.5)
                sizes.append(server.resident_bytes())
            at_once = await asyncio.gather(*(asks["grpc"]() for _ in range(5000)))
            assert set(at_once) <= {"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
            assert await asks["grpc"]() == "OK"  # and it goes on
            await over_http.close()
            await over_grpc.close()
            return found, sizes

        found, sizes = asyncio.run(flood())
    assert set(found["http"].statuses) <= {"200", "503", "504"}
    assert set(found["grpc"].statuses) <= {"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
    for outcomes in found.values():
        refused = sum(outcomes.statuses.values()) - len(outcomes.latencies_s)
        assert refused > len(outcomes.latencies_s) > 0
        assert outcomes.percentile_ms(99) < 2 * 2000  # what is accepted is answered in its time
    assert sizes[-1] - sizes[0] < 20_000_000


async def timed(ask: Any) -> float:
    begun = time.perf_counter()
    assert await ask() == "OK"
    return time.perf_counter() - begun
