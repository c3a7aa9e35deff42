"""The same network by ONNX Runtime behind other servers, one after the other on this machine.

Each has a virtual environment of its own in build/peers, since their dependencies exclude each
other. One model process with one thread, batches of the same size and window, the same clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from serve_load import GrpcClient, HttpClient, closed_loop, grpc_request
from serve_process import launch_bound, put, serving

CLIENTS = 64
MAX_BATCH = 32
WINDOW_S = 0.002
START_S = 120.0
NAME = "launches"
HERE = Path(__file__).parent
FOLDER = HERE.parent / "build" / "peers"
REQUIRED = {"LitServe": ["litserve", "onnxruntime"], "MLServer": ["mlserver", "onnxruntime"]}
X = np.random.default_rng(1).random((1, 128), np.float32)
TENSOR = {"name": "x", "shape": [1, 128], "datatype": "FP32", "data": X.ravel().tolist()}
OIP = f"/v2/models/{NAME}/infer", json.dumps({"inputs": [TENSOR]}).encode()
Addresses = dict[str, tuple[str, str, bytes]]
"""Protocol → address, path, body."""


def measure(seconds: float, rounds: int) -> dict[str, Any]:
    """Requests per second and latency of each server and protocol; why, where there is none."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as text:
        path = put(Path(text), NAME, launch_bound()[0])
        starts: dict[str, Callable[[], Any]] = {"Rekindle": lambda: _rekindle(Path(text))}
        for name, start in (("LitServe", _litserve), ("MLServer", _mlserver)):
            try:
                python = _installed(name)
            except (subprocess.CalledProcessError, OSError) as error:
                found[name] = {"error": f"cannot be installed: {error}"}
                continue
            starts[name] = lambda start=start, python=python: start(python, path)
        for _ in range(rounds):
            for name, start in starts.items():
                try:
                    with start() as addresses:
                        for protocol, where in addresses.items():
                            row = asyncio.run(_load(protocol, where, seconds))
                            found.setdefault(name, {}).setdefault(protocol, []).append(row)
                except (RuntimeError, OSError) as error:
                    found[name] = {"error": str(error)}
    return {
        "clients": CLIENTS, "max_batch": MAX_BATCH, "window_ms": WINDOW_S * 1e3,
        "servers": {name: _best(rows) for name, rows in found.items()},
    }  # fmt: skip


def show(figures: dict[str, Any]) -> None:
    for name, rows in figures["servers"].items():
        for protocol, row in rows.items():
            text = row if isinstance(row, str) else (
                f"{row['per_second']:7.0f}/s p50 {row['p50_ms']:.1f} p99 {row['p99_ms']:.1f} ms"
            )  # fmt: skip
            print(f"{name:10} {protocol:10} {text}")


def _best(rows: dict[str, Any]) -> dict[str, Any]:
    """The round with the most requests, for each protocol: the machine only ever takes away."""
    return {
        protocol: found if isinstance(found, str) else max(found, key=lambda r: r["per_second"])
        for protocol, found in rows.items()
    }


async def _load(protocol: str, where: tuple[str, str, bytes], seconds: float) -> dict[str, Any]:
    address, path, body = where
    if protocol == "gRPC":
        client: Any = GrpcClient(address)
        ask = client.asking(body)
    else:
        client = HttpClient(address)
        ask = client.asking(path, body, {"Content-Type": "application/json"})
    try:
        await closed_loop(ask, CLIENTS, seconds / 4)
        found = await closed_loop(ask, CLIENTS, seconds)
    finally:
        await client.close()
    if not found.latencies_s:
        raise RuntimeError(f"{protocol}: no request was answered: {dict(found.statuses)}")
    return {
        "per_second": len(found.latencies_s) / seconds,
        "p50_ms": found.percentile_ms(50),
        "p99_ms": found.percentile_ms(99),
        "statuses": dict(found.statuses),
    }


@contextlib.contextmanager
def _rekindle(folder: Path) -> Iterator[Addresses]:
    options = ("--max-batch", str(MAX_BATCH), "--window-ms", str(WINDOW_S * 1e3))
    with serving(folder, *options) as server:
        yield {
            "HTTP JSON": (server.http, *OIP),
            "gRPC": (server.grpc, "", grpc_request(NAME, X)),
        }


@contextlib.contextmanager
def _litserve(python: Path, model: Path) -> Iterator[Addresses]:
    (port,) = _free_ports(1)
    script = str(HERE / "peers" / "litserve_app.py")
    command = [str(python), script, str(model), str(port), str(MAX_BATCH), str(WINDOW_S)]
    with _running(command, model.parent, f"http://127.0.0.1:{port}/health"):
        body = json.dumps({"x": X.ravel().tolist()}).encode()
        yield {"HTTP JSON": (f"127.0.0.1:{port}", "/predict", body)}


@contextlib.contextmanager
def _mlserver(python: Path, model: Path) -> Iterator[Addresses]:
    http, grpc, metrics = _free_ports(3)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        # In one process: its workers do not start with today's uvloop, and cost a hop each way.
        server = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc,
                  "metrics_port": metrics, "parallel_workers": 0, "debug": False}  # fmt: skip
        settings = {
            "name": NAME, "implementation": "mlserver_model.Model",
            "max_batch_size": MAX_BATCH, "max_batch_time": WINDOW_S,
            "parameters": {"uri": str(model)},
        }  # fmt: skip
        (folder / "settings.json").write_text(json.dumps(server))
        (folder / "model-settings.json").write_text(json.dumps(settings))
        source = (HERE / "peers" / "mlserver_model.py").read_text(encoding="utf-8")
        (folder / "mlserver_model.py").write_text(source)
        command = [str(python.parent / "mlserver"), "start", str(folder)]
        with _running(command, folder, f"http://127.0.0.1:{http}/v2/models/{NAME}/ready"):
            yield {
                "HTTP JSON": (f"127.0.0.1:{http}", *OIP),
                "gRPC": (f"127.0.0.1:{grpc}", "", grpc_request(NAME, X)),
            }


@contextlib.contextmanager
def _running(command: list[str], folder: Path, probe: str) -> Iterator[None]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            _await(process, probe, log)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


def _await(process: subprocess.Popen[bytes], probe: str, log: Any) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(probe, timeout=5).close()
            return
        time.sleep(0.2)
    log.seek(0)
    last = " ".join(log.read().split())[-300:]
    raise RuntimeError(f"does not start: {last}")


def _installed(name: str) -> Path:
    """The interpreter of a server's environment, made when it is first needed."""
    folder = FOLDER / name.lower()
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *REQUIRED[name]], check=True
        )
        (folder / "complete").touch()
    return python


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
