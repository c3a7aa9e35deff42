"""Servers as processes, and the small models they serve."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

END_S = 60.0


@dataclass
class Serving:
    """A running `rekindle serve`."""

    process: subprocess.Popen[bytes]
    http: str
    grpc: str

    def resident_bytes(self) -> int:
        """Memory of the server and of its workers, in RAM."""
        return sum(resident_bytes(pid) for pid in [self.process.pid, *self.workers()])

    def workers(self) -> list[int]:
        """Process numbers of the workers."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[Serving]:
    """`rekindle serve` on free ports with ONNX Runtime on one thread, ready; ended at the end."""
    command = [
        sys.executable, "-m", "rekindle.cli", "serve", str(folder), "--http-port", "0",
        "--grpc-port", "0", "--provider", "onnxruntime", "--threads", "1", *options,
    ]  # fmt: skip
    # A file, not a pipe: a line for each call would fill a pipe that nobody reads.
    with tempfile.NamedTemporaryFile("r+", suffix=".log") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            yield Serving(process, *_addresses(process, Path(log.name), command))
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _addresses(process: subprocess.Popen[bytes], log: Path, command: list[str]) -> list[str]:
    """Where the server answers by HTTP and by gRPC, once it has loaded its models."""
    while process.poll() is None:
        text = log.read_text()
        if re.search("^Next", text, re.MULTILINE):
            return re.findall(r"^(?:REST +https?://|gRPC +)(\S+)", text, re.MULTILINE)
        time.sleep(0.02)
    raise RuntimeError(f"the server did not start: {' '.join(command)}\n{log.read_text()}")


def resident_bytes(pid: int) -> int:
    """Memory of a process in RAM; 0 where it is gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * 4096


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


def model(nodes: list[Any], x: list[Any], y: list[Any], constants: dict[str, Any]) -> bytes:
    """X → y in opset 13, both FP32."""
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    return data


def launch_bound(width: int = 128, layers: int = 30) -> tuple[bytes, dict[str, int]]:
    """`layers` x (MatMul, Tanh): many small nodes; and its nodes and multiply-adds of one row."""
    rng = np.random.default_rng(0)
    nodes, constants, at = [], {}, "x"
    for k in range(layers):
        scale = 1 / np.sqrt(width)
        constants[f"w{k}"] = rng.normal(0, scale, (width, width)).astype(np.float32)
        nodes += [
            helper.make_node("MatMul", [at, f"w{k}"], [f"m{k}"]),
            helper.make_node("Tanh", [f"m{k}"], ["y" if k == layers - 1 else f"t{k}"]),
        ]
        at = f"t{k}"
    data = model(nodes, ["N", width], ["N", width], constants)
    return data, {"nodes": len(nodes), "multiply_adds": layers * width * width}
