"""Clients by the hundred in one event loop: requests as prepared bytes, answers hardly read.

Client and server share the machine, so what a client costs is taken from the server.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

METHOD = "/inference.GRPCInferenceService/ModelInfer"
Ask = Callable[[], Awaitable[str]]
"""One request; its status, as the protocol has it."""


@dataclass
class Outcomes:
    """What became of requests. Times in seconds since `started`."""

    started: float = field(default_factory=time.perf_counter)
    statuses: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    """Of those that were answered well."""
    finished_s: list[float] = field(default_factory=list)
    """When each of those was."""
    failed_s: list[tuple[float, str]] = field(default_factory=list)

    def add(self, status: str, begun: float) -> None:
        now = time.perf_counter()
        self.statuses[status] += 1
        if status in ("200", "OK"):
            self.latencies_s.append(now - begun)
            self.finished_s.append(now - self.started)
        else:
            self.failed_s.append((now - self.started, status))

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.latencies_s, percent)) * 1e3 if self.latencies_s else 0.0


def grpc_request(name: str, x: Any, timeout_us: int = 0) -> bytes:
    """A ModelInferRequest with one raw FP32 input `x`."""
    from rekindle.serve.grpc.schema import message

    made = message("inference.ModelInferRequest")(model_name=name)
    made.inputs.add(name="x", datatype="FP32", shape=x.shape)
    made.raw_input_contents.append(np.ascontiguousarray(x, np.float32).tobytes())
    if timeout_us:
        made.parameters["timeout"].int64_param = timeout_us
    data: bytes = made.SerializeToString()
    return data


def http_request(x: Any, timeout_us: int = 0) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the same request, binary."""
    raw = np.ascontiguousarray(x, np.float32).tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape),
              "parameters": {"binary_data_size": len(raw)}}  # fmt: skip
    parameters: dict[str, Any] = {"binary_data_output": True}
    if timeout_us:
        parameters["timeout"] = timeout_us
    head = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    return head + raw, {"Inference-Header-Content-Length": str(len(head))}


class GrpcClient:
    """Channels that each carry an equal part of the calls."""

    def __init__(self, address: str, channels: int = 2) -> None:
        # Channels with the same options would share one connection.
        self._channels = [
            grpc.aio.insecure_channel(address, options=[("benchmark", k)]) for k in range(channels)
        ]
        self._calls = [channel.unary_unary(METHOD) for channel in self._channels]
        self._turn = 0

    def asking(self, data: bytes, timeout_s: float | None = None) -> Ask:
        async def ask() -> str:
            self._turn += 1
            try:
                await self._calls[self._turn % len(self._calls)](data, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                return str(error.code().name)
            return "OK"

        return ask

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


class HttpClient:
    """A pool of kept connections."""

    def __init__(self, address: str) -> None:
        import aiohttp

        self._failures = (aiohttp.ClientError, ConnectionError)
        self._session = aiohttp.ClientSession(
            f"http://{address}", connector=aiohttp.TCPConnector(limit=0)
        )

    def asking(self, path: str, data: bytes, headers: dict[str, str]) -> Ask:
        async def ask() -> str:
            try:
                async with self._session.post(path, data=data, headers=headers) as answer:
                    await answer.read()
                    return str(answer.status)
            except self._failures as error:
                return type(error).__name__

        return ask

    async def close(self) -> None:
        await self._session.close()


async def closed_loop(ask: Ask, clients: int, seconds: float) -> Outcomes:
    """So many clients, each of which asks again as soon as it is answered."""
    outcomes = Outcomes()
    end = outcomes.started + seconds

    async def client() -> None:
        while (begun := time.perf_counter()) < end:
            outcomes.add(await ask(), begun)

    await asyncio.gather(*(client() for _ in range(clients)))
    return outcomes


async def open_loop(ask: Ask, per_second: float, seconds: float) -> Outcomes:
    """Requests at a fixed rate, whether or not earlier ones have been answered."""
    outcomes = Outcomes()
    running: set[asyncio.Task[None]] = set()

    async def one() -> None:
        begun = time.perf_counter()
        outcomes.add(await ask(), begun)

    sent = 0
    while (spent := time.perf_counter() - outcomes.started) < seconds:
        while sent < spent * per_second:
            task = asyncio.create_task(one())
            running.add(task)
            task.add_done_callback(running.discard)
            sent += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*running)
    return outcomes
