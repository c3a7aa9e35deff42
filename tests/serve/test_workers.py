"""Workers: in a process or a thread, the same answers; what dies, dies alone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from serving import affine, mixing, model

from rekindle._errors import CardError, InputError, ModelError
from rekindle._types import DType, TensorSpec
from rekindle.serve.server import new_loop
from rekindle.serve.worker.job import Job, Opened, Worker, WorkerLostError, pack, unpack_opened
from rekindle.serve.worker.opening import open_model
from rekindle.serve.worker.process import ProcessWorker
from rekindle.serve.worker.shared import Region, copied
from rekindle.serve.worker.thread import ThreadWorker


def job(path: Path, **options: Any) -> Job:
    chosen: dict[str, Any] = {
        "provider": "onnxruntime", "device": None, "precision": "model", "threads": 1,
        "max_batch": 8,
    }  # fmt: skip
    return Job(str(path), **(chosen | options))


def write(folder: Path, data: bytes, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def make(kind: str, **options: Any) -> Any:
    if kind == "thread":
        return ThreadWorker("test")
    return ProcessWorker(**({"hang_s": 5.0, "run_timeout_s": 20.0} | options))


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=new_loop()) as runner:
        runner.run(asyncio.wait_for(test(), 60))


kinds = pytest.mark.parametrize("kind", ["process", "thread"])


@kinds
def test_batches_and_single_requests(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, affine(3.0, columns=1000))

    async def scene() -> None:
        worker: Worker = make(kind)
        opened = await worker.open(job(path))
        assert worker.alive
        assert (opened.batchable, opened.sizes, opened.provider) == (True, (), "onnxruntime")
        assert opened.inputs == (TensorSpec("x", DType.FLOAT32, ("N", 1000)),)
        assert [rows for rows, _ in opened.latencies] == [1, 2, 4, 8]
        x = np.arange(700_000, dtype=np.float32).reshape(700, 1000)  # grows the shared memory
        ran = await worker.run([{"x": x}], 0)
        np.testing.assert_array_equal(ran.outputs["y"], 3 * x + 1)
        ran = await worker.run([{"x": x[:1]}, {"x": x[5:7]}], 4)
        expected = 3 * np.concatenate([x[:1], x[5:7], 0 * x[:1]]) + 1
        np.testing.assert_array_equal(ran.outputs["y"], expected)
        with pytest.raises(InputError, match="rank"):
            await worker.run([{"x": x[0]}], 0)
        await worker.close()
        assert not worker.alive

    run(scene)


@kinds
def test_texts_cross_the_border(kind: str, tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    data = model([node], {"x": ["N", 2]}, {"y": ["N", 2]}, {}, TensorProto.STRING)

    async def scene() -> None:
        worker = make(kind)
        await worker.open(job(write(tmp_path, data)))
        words = np.array([["año", ""], ["x" * 300, "b"]], object)
        ran = await worker.run([{"x": words[:1]}, {"x": words[1:]}], 0)
        assert ran.outputs["y"].tolist() == words.tolist()
        await worker.close()

    run(scene)


@kinds
def test_a_model_that_cannot_be_opened_says_why(kind: str, tmp_path: Path) -> None:
    async def scene() -> None:
        worker = make(kind)
        with pytest.raises(ModelError):
            await worker.open(job(write(tmp_path, b"not a model")))
        await worker.close()

    run(scene)


def test_a_killed_process_fails_its_run_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path, affine())

    async def scene() -> None:
        lost = asyncio.Event()
        worker = ProcessWorker(hang_s=5.0, run_timeout_s=20.0, lost=lost.set)
        await worker.open(job(path))
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        await lost.wait()
        assert not worker.alive
        with pytest.raises(WorkerLostError):
            await worker.run([{"x": np.ones((1, 3), np.float32)}], 0)
        await worker.close()

    run(scene)


def test_a_stopped_process_is_noticed_and_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rekindle.serve.worker.process._TICK_S", 0.5)
    path = write(tmp_path, affine())

    async def scene() -> None:
        lost = asyncio.Event()
        worker = ProcessWorker(hang_s=2.0, run_timeout_s=20.0, lost=lost.set)
        await worker.open(job(path))
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        await lost.wait()
        assert not worker.alive
        await worker.close()

    run(scene)


def test_a_run_that_never_ends_is_killed(tmp_path: Path) -> None:
    path = write(tmp_path, affine())

    async def scene() -> None:
        worker = ProcessWorker(hang_s=60.0, run_timeout_s=0.2)
        await worker.open(job(path))
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(WorkerLostError, match="died while it ran this"):
            await worker.run([{"x": np.ones((1, 3), np.float32)}], 0)
        await worker.close()

    run(scene)


def test_the_process_ends_with_its_server(tmp_path: Path) -> None:
    path = write(tmp_path, affine())

    async def scene() -> None:
        worker = ProcessWorker(hang_s=5.0, run_timeout_s=20.0)
        await worker.open(job(path))
        process = worker._process
        assert process is not None
        for number in (signal.SIGINT, signal.SIGTERM):  # the server's business, not the worker's
            os.kill(process.pid, number)
        ran = await worker.run([{"x": np.ones((1, 3), np.float32)}], 0)
        assert float(ran.outputs["y"][0, 0]) == 3
        await worker.close()
        assert process.poll() == 0

    run(scene)


def test_rows_that_depend_on_each_other_are_not_batched(tmp_path: Path) -> None:
    opened = open_model(job(write(tmp_path, mixing()))).opened
    assert not opened.batchable
    assert "depends on the other rows" in opened.batch_reason


def test_a_fixed_first_dimension_is_not_batched(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    opened = open_model(
        job(write(tmp_path, model([node], {"x": [1, 4]}, {"y": [1, 4]}, {})))
    ).opened
    assert (opened.batchable, opened.latencies[0][0]) == (False, 1)


def test_a_card_that_says_something_else_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, affine())
    for spec in (
        TensorSpec("image", DType.FLOAT32, ("N", 3)),
        TensorSpec("x", DType.FLOAT16, ("N", 3)),
        TensorSpec("x", DType.FLOAT32, ("N", 4)),
        TensorSpec("x", DType.FLOAT32, ("N", 3, 1)),
    ):
        with pytest.raises(CardError, match=r"the model has x: float32\[N, 3\]"):
            open_model(job(path, inputs=(spec,)))
    good = open_model(job(path, inputs=(TensorSpec("x", DType.FLOAT32, ("N", 3)),)))
    assert good.opened.batchable


@pytest.mark.opencl
def test_our_engine_keeps_to_a_few_sizes(tmp_path: Path) -> None:
    opened = open_model(
        job(write(tmp_path, affine()), provider="opencl", threads=None, max_batch=3)
    ).opened
    assert (opened.batchable, opened.sizes) == (True, (1, 2, 3))
    assert opened.nbytes > 0


def test_what_a_worker_tells_survives_the_border() -> None:
    opened = Opened(
        (TensorSpec("x", DType.BFLOAT16, ("N", 3)),), (TensorSpec("y", DType.STRING, ()),),
        "onnx", "opencl", "there", 7, True, "because", (1, 2), ((1, 0.5), (2, 0.75)), 1.25,
    )  # fmt: skip
    assert unpack_opened(pack(opened)) == opened


def test_shared_memory_grows_and_is_read_by_the_other_side() -> None:
    ours = Region()
    theirs = Region(os.dup(ours.descriptor))
    tensors = {
        "a": np.arange(13, dtype=np.float16),
        "b": np.array(True),
        "c": np.zeros((0, 3), np.int64),
        "d": np.random.default_rng(0).random((127, 1000)),
        "e": np.array(["x", "año"], object),
    }
    places = ours.write(tensors, start=64)
    theirs.map(ours.size)
    read = copied(theirs, places)
    for name, array in tensors.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    ours.close()
    theirs.close()
