"""What metrics, request ids and access lines cost a request.

    python benchmarks/observe_cost.py [--repeats 2000]

Two servers in one process, one with everything, one that neither counts, logs nor makes ids, and
one client that asks them in turn, over gRPC and over HTTP with binary tensors. The model hardly
computes. Writes benchmarks/results/observe_cost.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from machine import describe
from serve_overhead import network

from rekindle.serve import Server, Settings
from rekindle.serve.dataplane import _Counting
from rekindle.serve.events import Listener, Listeners
from rekindle.serve.observe.logs import logging_to
from rekindle.serve.server import new_loop

RESULT = Path(__file__).parent / "results" / "observe_cost.json"
ROUND = 100
"""Requests to one server before the other's turn."""
SETTLE_S = 0.05
"""After a round: the log's thread writes what the round left."""


def _add_statistics_only(self: Listeners, listener: Listener) -> None:
    if isinstance(listener, _Counting):
        self._all.append(listener)


@contextlib.contextmanager
def serving(folder: Path, *, observed: bool) -> Iterator[Server]:
    """A server in a thread; its statistics, which the protocol asks for, are kept in any case."""
    settings = Settings(
        folder, http_port=0, grpc_port=0, isolation="thread", provider="onnxruntime", threads=1
    )
    ready, made = threading.Event(), []

    async def serve() -> None:
        server = Server(settings)
        await server.start()
        await server.loaded()
        made.append((asyncio.get_running_loop(), server))
        ready.set()
        await server.wait()

    def main() -> None:
        with asyncio.Runner(loop_factory=new_loop()) as runner:
            runner.run(serve())

    with contextlib.ExitStack() as stack:
        if not observed:
            plain = mock.patch.object
            from rekindle.serve import server as http
            from rekindle.serve.grpc.observed import Observed

            stack.enter_context(plain(http, "Observed", lambda app, listener: app))
            stack.enter_context(plain(Observed, "_wrap", lambda self, name, handler: handler))
            stack.enter_context(plain(Listeners, "add", _add_statistics_only))
        thread = threading.Thread(target=main, daemon=True)
        thread.start()
        ready.wait(120)
    loop, server = made[0]
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(server.stop)
        thread.join(60)


def measure(servers: dict[str, Server], module: Any, port: str, repeats: int) -> dict[str, Any]:
    """Medians of both servers, and the processor time of a request, client included."""
    tensor = module.InferInput("x", [1, 8], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 8), np.float32))
    spent: dict[str, list[float]] = {name: [] for name in servers}
    cpu = dict.fromkeys(servers, 0.0)
    with contextlib.ExitStack() as stack:
        clients = {
            name: stack.enter_context(
                module.InferenceServerClient(f"127.0.0.1:{getattr(server, port)}")
            )
            for name, server in servers.items()
        }
        for client in clients.values():
            for _ in range(200):
                client.infer("probe", [tensor])
        for _ in range(repeats // ROUND):
            for name, client in clients.items():
                before = time.process_time()
                for _ in range(ROUND):
                    start = time.perf_counter()
                    client.infer("probe", [tensor])
                    spent[name].append((time.perf_counter() - start) * 1e3)
                time.sleep(SETTLE_S)
                cpu[name] += time.process_time() - before
    middle = {name: statistics.median(times) for name, times in spent.items()}
    used = {name: seconds * 1e3 / len(spent[name]) for name, seconds in cpu.items()}
    return {
        name: {"observed_ms": both["observed"], "bare_ms": both["bare"],
               "ratio": both["observed"] / both["bare"]}
        for name, both in (("p50", middle), ("processor", used))
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        logging_to(nowhere, "json"),
    ):
        path = Path(folder) / "probe/1/model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(network((1, 8)))
        with (
            serving(Path(folder), observed=False) as bare,
            serving(Path(folder), observed=True) as observed,
        ):
            servers = {"observed": observed, "bare": bare}
            figures = {
                "gRPC": measure(servers, over_grpc, "grpc_port", options.repeats),
                "HTTP binary": measure(servers, over_http, "http_port", options.repeats),
            }
    record = {"machine": describe(), "repeats": options.repeats, "protocols": figures}
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for name, kinds in figures.items():
        for kind, row in kinds.items():
            print(
                f"{name:12} {kind:10} observed {row['observed_ms']:.3f} ms, "
                f"bare {row['bare_ms']:.3f} ms, ratio {row['ratio']:.3f}"
            )


if __name__ == "__main__":
    main()
