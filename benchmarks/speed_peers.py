"""The engines that are compared: each opens an ONNX file once and runs it again and again.

An engine here is a function of a file and the feeds that returns a runner, a function without
arguments: inputs on the host to outputs on the host, as a list in the model's order. What an
engine cannot do it says by raising.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]
Runner = Callable[[], list[Array]]

REFERENCE = "onnxruntime"
OURS = "rekindle"
EXACT = (OURS, REFERENCE, "ncnn", "tinygrad", "tinygrad-beam", "numpy")
"""Engines in fp32; `rekindle-PRECISION` are the others."""


def open_peer(engine: str, path: Path, feeds: Feeds, threads: int, folder: Path) -> Runner:
    """The runner of an engine by name; `folder` is for files it must make."""
    if engine == "ncnn":
        return ncnn(path, feeds, threads, folder)
    if engine == "numpy":
        return numpy(path, feeds)
    if engine.startswith("tinygrad"):
        return tinygrad(path, feeds, beam=2 if engine.endswith("beam") else 0)
    if engine == REFERENCE:
        return onnxruntime(path, feeds, threads)
    name, _, precision = engine.partition("-")
    if name != OURS:
        raise ValueError(f"no engine is called {engine!r}")
    return rekindle(path, feeds, precision or "model")


def rekindle(path: Path, feeds: Feeds, precision: str) -> Runner:
    from rekindle import open_session

    session = open_session(path, provider="opencl", precision=precision)
    return lambda: list(session.run(feeds).values())


def onnxruntime(path: Path, feeds: Feeds, threads: int) -> Runner:
    """The CPU provider with every optimisation, and its threads spinning, as it comes."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    fed = dict(feeds)
    return lambda: session.run(None, fed)


def tinygrad(path: Path, feeds: Feeds, beam: int) -> Runner:
    """Its ONNX front-end under its JIT, on the very OpenCL driver that our engine uses."""
    import pyopencl

    loaders = (Path(pyopencl.__file__).parent / ".libs").glob("libOpenCL*")
    if loader := next(loaders, None):
        os.environ.setdefault("OPENCL_PATH", str(loader))
    os.environ["DEV"] = "CL"
    # Constants it computes on its own CPU device, with `clang`: Debian's has a number.
    if found := next(filter(None, map(shutil.which, ("clang", "clang-19"))), None):
        os.environ.setdefault("CC", found)
    from tinygrad import Tensor, TinyJit
    from tinygrad.helpers import Context
    from tinygrad.nn.onnx import OnnxRunner

    model = OnnxRunner(path)

    @TinyJit
    def network(**inputs: Any) -> list[Any]:
        return [value.realize() for value in model(inputs).values()]

    def run() -> list[Array]:
        inputs = {name: Tensor(array).realize() for name, array in feeds.items()}
        return [value.numpy() for value in network(**inputs)]

    with Context(BEAM=beam):
        for _ in range(3):  # run, capture, first replay
            run()
    return run


def ncnn(path: Path, feeds: Feeds, threads: int, folder: Path) -> Runner:
    """Converted by pnnx for a batch of one: ncnn has no batch, so a batch runs item by item."""
    import ncnn as lib

    batch = {array.shape[0] for array in feeds.values() if array.ndim}
    if len(batch) != 1 or path.stem.startswith("gemm"):
        raise ValueError("ncnn runs item by item, and not every input has a batch")
    net = lib.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for name in ("packed", "storage", "arithmetic"):
        setattr(net.opt, f"use_fp16_{name}", False)
    stem = _pnnx(path, feeds, folder)
    if net.load_param(f"{stem}.ncnn.param") or net.load_model(f"{stem}.ncnn.bin"):
        raise ValueError("ncnn does not load what pnnx made of the model")
    names, wanted = net.input_names(), net.output_names()
    if len(names) != len(feeds):
        raise ValueError(f"pnnx made {len(names)} inputs of {len(feeds)}")
    items = [[_ncnn_item(array[i]) for array in feeds.values()] for i in range(next(iter(batch)))]

    def run() -> list[Array]:
        rows = []
        for item in items:
            extractor = net.create_extractor()
            for name, array in zip(names, item, strict=True):
                extractor.input(name, lib.Mat(array))
            rows.append([np.array(extractor.extract(name)[1]) for name in wanted])
        return [np.stack(column) for column in zip(*rows, strict=True)]

    return run


def _ncnn_item(array: Array) -> Array:
    """One item of a batch; ncnn's integers have 32 bits."""
    kind = np.float32 if array.dtype.kind == "f" else np.int32
    return np.ascontiguousarray(array, kind)


def _pnnx(path: Path, feeds: Feeds, folder: Path) -> Path:
    """Convert once, to fp32; returns the path without `.ncnn.param`."""
    import pnnx

    kinds = {"float32": "f32", "int64": "i64", "int32": "i32", "bool": "bool"}
    shapes = [(1, *array.shape[1:]) for array in feeds.values()]
    given = ",".join(
        f"[{','.join(map(str, shape))}]{kinds[str(array.dtype)]}"
        for shape, array in zip(shapes, feeds.values(), strict=True)
    )
    folder = folder / f"ncnn-{path.stem}"
    stem = folder / path.stem
    if not Path(f"{stem}.ncnn.param").exists():
        folder.mkdir(parents=True, exist_ok=True)
        source = stem.with_suffix(".onnx")  # pnnx writes beside what it reads
        source.unlink(missing_ok=True)
        source.symlink_to(path.resolve())
        command = [pnnx.EXEC_PATH, str(source), f"inputshape={given}", "fp16=0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode or not Path(f"{stem}.ncnn.param").exists():
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise ValueError(f"pnnx does not convert it: {' '.join(last)}")
    return stem


def numpy(path: Path, feeds: Feeds) -> Runner:
    """NumPy on OpenBLAS, for files that are one matrix product."""
    import onnx

    graph = onnx.load(path).graph
    if [node.op_type for node in graph.node] != ["MatMul"]:
        raise ValueError("numpy runs matrix products only")
    known = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    a, b = ({**known, **feeds}[name] for name in graph.node[0].input)
    return lambda: [a @ b]
