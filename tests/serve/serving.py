"""A server in a thread with tiny models, and how to write those."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from rekindle.serve import Server, Settings
from rekindle.serve.rest import Mount
from rekindle.serve.server import new_loop

LIMIT_S = 120.0
"""No test waits longer for anything."""


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    limit = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


class Running:
    """A server in an event loop of its own."""

    def __init__(self, settings: Settings, mounts: Sequence[Mount] = ()) -> None:
        self._mounts = mounts
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self.drained: bool | None = None
        self._thread = threading.Thread(target=self._main, args=(settings,), daemon=True)
        self._thread.start()
        assert self._ready.wait(LIMIT_S)
        if self._failure is not None:
            raise self._failure

    @property
    def http(self) -> str:
        return f"127.0.0.1:{self.server.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.server.grpc_port}"

    @property
    def plane(self) -> Any:
        return self.server.plane

    def do(self, work: Any) -> Any:
        """Run a coroutine in the server's loop; its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(LIMIT_S)

    def stop(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.server.stop)
            self._thread.join(LIMIT_S)
            assert not self._thread.is_alive()

    def begin_stop(self) -> None:
        self.loop.call_soon_threadsafe(self.server.stop)

    def _main(self, settings: Settings) -> None:
        try:
            with asyncio.Runner(loop_factory=new_loop()) as runner:  # the loop that serves
                runner.run(self._serve(settings))
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self, settings: Settings) -> None:
        self.loop = asyncio.get_running_loop()
        self.server = Server(settings, mounts=self._mounts)
        await self.server.start()
        await self.server.loaded()
        self._ready.set()
        self.drained = await self.server.wait()


def affine(weight: float = 2.0, columns: int = 3) -> bytes:
    """y[N, columns] = weight * x + 1: every row by itself."""
    nodes = [
        helper.make_node("Mul", ["x", "weight"], ["scaled"]),
        helper.make_node("Add", ["scaled", "one"], ["y"]),
    ]
    constants = {"weight": np.float32(weight), "one": np.float32(1)}
    return model(nodes, {"x": ["N", columns]}, {"y": ["N", columns]}, constants)


def mixing() -> bytes:
    """Y = x - mean over rows: a row's output depends on the others."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return model(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, {})


def model(
    nodes: list[Any],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
    constants: dict[str, Any],
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """An ONNX model, opset 13."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    return data


def put(root: Path, name: str, version: str, data: bytes) -> Path:
    """Write a bare model into a repository, as one must: complete, then renamed."""
    folder = root / name / version
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".model.onnx"
    partial.write_bytes(data)
    return partial.replace(folder / "model.onnx")
