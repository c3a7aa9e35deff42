"""Runs that end early, by Ctrl-C or for want of memory: the session goes on afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyopencl as cl
import pytest
from onnx import helper

from rekindle import open_session
from rekindle._errors import DeviceError, MemoryLimitError
from rekindle._types import Target
from rekindle.device import Device
from rekindle.engine import allocation, executor
from tests.engine.graphs import chain, model, write

pytestmark = pytest.mark.opencl
WIDTH = 64
BATCH = 8192
DEPTH = 400
SCRIPT = """
import sys
import numpy as np
from rekindle import open_session
from rekindle.engine import executor

real, launched = executor.cl.enqueue_nd_range_kernel, 0

def counted(*args):
    global launched
    launched += 1
    if launched == 5:
        print("running", flush=True)
    return real(*args)

executor.cl.enqueue_nd_range_kernel = counted
session = open_session(sys.argv[1], provider="opencl", memory_limit=sys.argv[3])
x = np.ones((int(sys.argv[2]), session.inputs[0].shape[1]), np.float32)
try:
    session.run({"x": x})
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted after", launched)
y = session.run({"x": x[:1]})["y"]
print("usable", bool(np.isfinite(y).all()))
session.close()
print("closed", flush=True)
"""


def rows(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).standard_normal((batch, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(chain(6, WIDTH), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def long_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many layers that share one weight: a small file, and many seconds at a large batch."""
    weight = np.eye(512, dtype=np.float32)
    names = ["x", *(f"h{k}" for k in range(DEPTH - 1)), "y"]
    nodes = [
        helper.make_node("MatMul", [names[k], "w"], [names[k + 1]], name=f"layer{k}")
        for k in range(DEPTH)
    ]
    proto = model(nodes, {"x": ["N", 512]}, {"y": ["N", 512]}, {"w": weight})
    return write(proto, tmp_path_factory.mktemp("long"))


def no_memory() -> cl.MemoryError:
    """What pyopencl raises for CL_MEM_OBJECT_ALLOCATION_FAILURE."""
    code = cl.status_code.MEM_OBJECT_ALLOCATION_FAILURE
    return cl.MemoryError(cl._cl._ErrorRecord(msg="", code=code, routine="create_buffer"))


def failing_buffer(times: int, from_bytes: int) -> Callable[..., cl.Buffer]:
    """Buffers of `from_bytes` and more are refused, that many times."""
    real, left = allocation.cl.Buffer, [times]

    def make(context: cl.Context, flags: int, size: int = 0, hostbuf: Any = None) -> cl.Buffer:
        if size >= from_bytes and left[0]:
            left[0] -= 1
            raise no_memory()
        return real(context, flags, size, hostbuf=hostbuf)

    return make


def test_a_refused_allocation_says_how_much_was_asked_and_the_session_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_session(path, provider="opencl") as session:
        expected = session.run({"x": rows(3)})["y"]
        held = session.device_bytes
        monkeypatch.setattr(allocation.cl, "Buffer", failing_buffer(99, 2 * 4 * WIDTH * 1000))
        with pytest.raises(MemoryLimitError, match="could not give 512,000 bytes for the activ"):
            session.run({"x": rows(1000)})
        monkeypatch.undo()
        np.testing.assert_array_equal(session.run({"x": rows(3)})["y"], expected)
        assert session.device_bytes == held
        assert session.run({"x": rows(1000)})["y"].shape == (1000, WIDTH)


def test_other_plans_give_way_before_an_allocation_is_given_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_session(path, provider="opencl") as session:
        session.run({"x": rows(3)})
        expected = open_session(path, provider="opencl").run({"x": rows(1000)})["y"]
        monkeypatch.setattr(allocation.cl, "Buffer", failing_buffer(1, 2 * 4 * WIDTH * 1000))
        np.testing.assert_array_equal(session.run({"x": rows(1000)})["y"], expected)


def test_a_driver_that_really_has_no_such_buffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planner believes in more memory than any machine has; the driver does not."""
    real: Callable[[Device], Target] = Device.target
    endless = {"global_bytes": 1 << 60, "max_alloc_bytes": 1 << 60}
    monkeypatch.setattr(Device, "target", lambda self: replace(real(self), **endless))
    names = [f"h{k}" for k in range(64)]  # all alive at once
    nodes = [helper.make_node("MatMul", ["x", "w"], [name]) for name in names]
    groups = {f"g{k}": names[k : k + 8] for k in range(0, 64, 8)}
    nodes += [helper.make_node("Max", group, [name]) for name, group in groups.items()]
    nodes.append(helper.make_node("Max", list(groups), ["y"]))
    proto = model(
        nodes, {"x": ["N", WIDTH]}, {"y": ["N", WIDTH]}, {"w": np.eye(WIDTH, dtype=np.float32)}
    )
    with open_session(write(proto, tmp_path), provider="opencl") as session:
        batch = 1 << 24  # 4 GiB for each value; the array behind it is one row
        with pytest.raises(MemoryLimitError, match=r"could not give 2\d\d,[\d,]{11} bytes"):
            session.run({"x": np.broadcast_to(rows(1), (batch, WIDTH))})
        np.testing.assert_array_equal(session.run({"x": rows(3)})["y"], rows(3))


TIGHT = 3 * 4 * WIDTH * (WIDTH + 1) + 4096


@pytest.mark.parametrize(
    ("limit", "walk", "number"),
    [(None, True, 1), (None, False, 4), (TIGHT, True, 4)],
    ids=["one launch for all", "a launch for each", "streamed"],
)
@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (no_memory(), MemoryLimitError),
        (cl.RuntimeError("clEnqueueNDRangeKernel failed: INVALID_OPERATION"), DeviceError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["no memory", "refused", "Ctrl-C"],
)
def test_a_run_that_ends_between_two_launches(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: int | None,
    walk: bool,
    number: int,
    raised: BaseException,
    seen: type[BaseException],
) -> None:
    if not walk:
        monkeypatch.setenv("REKINDLE_NO_WALK", "1")
    with open_session(path, provider="opencl", memory_limit=limit) as session:
        expected = session.run({"x": rows(3)})["y"]
        real, launched = executor.cl.enqueue_nd_range_kernel, []

        def breaking(*args: Any) -> cl.Event:
            launched.append(args)
            if len(launched) == number:
                raise raised
            return real(*args)

        monkeypatch.setattr(executor.cl, "enqueue_nd_range_kernel", breaking)
        with pytest.raises(seen):
            session.run({"x": rows(3)})
        assert len(launched) == number
        monkeypatch.undo()
        for _ in range(2):
            np.testing.assert_array_equal(session.run({"x": rows(3)})["y"], expected)
        assert (session.placement.streaming is not None) == (limit is not None)


@pytest.mark.parametrize("limit", ["4GB", "40MB"], ids=["resident", "tight"])
def test_ctrl_c_stops_a_long_run_and_the_session_goes_on(long_path: Path, limit: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(long_path), str(BATCH), limit],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "running\n", process.communicate()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 0, err
    first, *others = out.splitlines()
    assert first.startswith("interrupted after "), out
    assert 5 <= int(first.split()[-1]) < DEPTH
    assert others == ["usable True", "closed"]
    assert err == ""


def test_ctrl_c_on_the_command_line_is_one_line_and_130(long_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "rekindle.cli", "run", str(long_path), "--shape", f"N={BATCH}",
         "--provider", "opencl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"REKINDLE_DEBUG": "4"},
    )  # fmt: skip
    try:
        assert process.stderr
        ready = 0
        for line in process.stderr:  # the log tells when everything is ready to run
            ready += sum(map(int, re.findall(r"walk through (\d+) launches", line)))
            if ready == DEPTH or f"layer{DEPTH - 1}" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 130
    assert out == ""
    said = [line for line in err.splitlines() if not re.search("layer|walk through", line)]
    assert said == ["error: interrupted"]
