"""One launch that walks through many: the same results as launch by launch, whoever takes part."""

from __future__ import annotations

import logging
import re
import threading
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import POLARIS, chain, classifier, model
from kernel_harness import CPU8

from rekindle import _log
from rekindle._types import Target
from rekindle.device import Device, select_device
from rekindle.engine import commands, compiler, kernels, walk, walk_source
from rekindle.engine.executor import Executor
from rekindle.engine.kernels import Launch, source_text
from rekindle.engine.plan import HostStep, Plan, plan
from rekindle.engine.weights import Weights
from rekindle.graph import onnx_io, passes
from rekindle.graph.infer import bind
from rekindle.graph.ir import Array

X = np.random.default_rng(5).standard_normal((3, 3, 17, 19)).astype(np.float32)


def planned(target: Target, proto: object = None, **shapes: tuple[int, ...]) -> Plan:
    proto = proto or classifier()
    graph = passes.run(onnx_io.load_bytes(proto.SerializeToString()), passes.PORTABLE)
    return plan(passes.run(bind(graph, shapes or {"x": X.shape}), passes.DEVICE, target), target)


def device() -> Device:
    found = select_device()
    if found.opencl().platform.name != "Portable Computing Language":
        pytest.skip("only PoCL is walked on")
    return found


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contexts that have compiled nothing yet."""
    monkeypatch.setattr(compiler, "_COMPILERS", {})
    _log.warn_once.cache_clear()


def results(made: Plan, feeds: dict[str, Array], runs: int = 1) -> list[dict[str, Array]]:
    handle = device().opencl()
    weights = Weights(handle)
    executor = Executor(made, handle, weights)
    try:
        return [executor.run(feeds) for _ in range(runs)]
    finally:
        executor.release()
        weights.release()


@pytest.mark.opencl
@pytest.mark.parametrize("workers", [1, 2, 7])
def test_any_number_of_workers_computes_the_same_again_and_again(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = planned(CPU8)
    with monkeypatch.context() as context:
        context.setenv("REKINDLE_NO_WALK", "1")
        (expected,) = results(made, {"x": X})
    monkeypatch.setattr(walk, "_workers", lambda _: workers)
    for found in results(made, {"x": X}, runs=5):
        np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-5)


@pytest.mark.opencl
def test_a_run_is_one_command(anew: None) -> None:
    made = planned(device().target())
    handle = device().opencl()
    executor = Executor(made, handle, Weights(handle))
    assert len(list(made.launches())) > 5
    assert [len(step[1]) for step in executor._steps if not isinstance(step, HostStep)] == [1]
    assert not compiler.compiler_for(handle)._programs  # no kernel was built to be launched alone
    executor.release()


@pytest.mark.opencl
def test_two_walks_at_a_time(anew: None) -> None:
    """Each has a queue of its own; the workers are the same."""
    handle, weights = device().opencl(), Weights(device().opencl())
    made = planned(device().target())
    executors = [Executor(made, handle, weights) for _ in range(2)]
    feeds = [X, X[::-1].copy()]
    expected = executors[0].run({"x": feeds[0]})["y"]
    found: list[list[Array]] = [[], []]

    def run(k: int) -> None:
        found[k] += [executors[k].run({"x": feeds[k]})["y"] for _ in range(20)]

    threads = [threading.Thread(target=partial(run, k)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for forward, backward in zip(*found, strict=True):
        np.testing.assert_array_equal(forward, expected)
        np.testing.assert_allclose(backward, expected[::-1], rtol=1e-5)
    for executor in executors:
        executor.release()


@pytest.mark.opencl
def test_a_plan_that_is_mostly_known_builds_what_it_lacks_only(anew: None) -> None:
    target = device().target()
    results(planned(target, chain(), x=(4, 64)), {"x": np.ones((4, 64), np.float32)})
    found = compiler.compiler_for(device().opencl())
    (first,) = found.walks
    made = planned(target, chain(), x=(4, 64))
    stranger = planned(target, chain(1, 48), x=(3, 48))
    launches = (*made.launches(), *stranger.launches())
    known = [first.knows(launch) for launch in launches]
    assert all(known[: len(tuple(made.launches()))])
    results(made, {"x": np.ones((4, 64), np.float32)})
    assert found.walks == [first]


@pytest.mark.opencl
def test_where_the_walk_does_not_compile_each_kernel_is_launched(
    anew: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = planned(device().target())
    (expected,) = results(made, {"x": X})
    compiler.compiler_for(device().opencl()).walks.clear()
    monkeypatch.setattr(walk, "walk_source", lambda *_: "no C at all;")
    with caplog.at_level(logging.WARNING):
        (found,) = results(made, {"x": X})
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-5)
    assert "launched by itself" in caplog.text


def shifted(array: Array, offset: int) -> Array:
    """A copy that lies `offset` bytes after a multiple of 64."""
    room = np.empty(array.nbytes + 128, np.uint8)
    first = -room.ctypes.data % 64 + offset
    copy = room[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.opencl
@pytest.mark.parametrize("nodes", [("Relu",), ("MatMul",), ("Relu", "MatMul")], ids="-".join)
def test_arrays_of_the_host_are_used_where_they_lie(nodes: tuple[str, ...]) -> None:
    """Wherever that is, and without a trace of one run in the results of another."""
    w = np.random.default_rng(2).standard_normal((64, 64)).astype(np.float32)
    names = ["x", *(f"v{k}" for k in range(len(nodes) - 1)), "y"]
    made = [
        onnx.helper.make_node(op, [a, "w"] if op == "MatMul" else [a], [b])
        for op, (a, b) in zip(nodes, pairwise(names), strict=True)
    ]
    made.append(onnx.helper.make_node("Relu", ["y"], ["z"]))
    proto = model(made, {"x": [5000, 64]}, {"y": [5000, 64], "z": [5000, 64]}, {"w": w})
    handle = device().opencl()
    executor = Executor(planned(device().target(), proto, x=(5000, 64)), handle, Weights(handle))
    assert executor._pointed == {"x", "y", "z"}
    kept = []
    for k, offset in enumerate((0, 4, 64, 20)):
        x = np.random.default_rng(k).standard_normal((5000, 64)).astype(np.float32)
        given = shifted(x, offset)
        found = executor.run({"x": given})
        np.testing.assert_array_equal(given, x)
        for op in nodes:
            x = np.maximum(x, 0) if op == "Relu" else x @ w
        kept.append((found, {"y": x, "z": np.maximum(x, 0)}))
    for found, wanted in kept:
        for name, expected in wanted.items():
            np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-4)
    executor.release()


@pytest.mark.opencl
def test_an_input_that_is_an_output_too_is_not_handed_out() -> None:
    node = onnx.helper.make_node
    nodes = [node("Relu", ["x"], ["y"]), node("Identity", ["x"], ["z"]),
             node("Reshape", ["y", "s"], ["v"])]  # fmt: skip
    proto = model(nodes, {"x": [4, 8]}, {"y": [4, 8], "z": [4, 8], "v": [8, 4]})
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([8, 4]), "s"))
    (found,) = results(
        planned(device().target(), proto, x=(4, 8)), {"x": X.ravel()[:32].reshape(4, 8)}
    )
    x = X.ravel()[:32].reshape(4, 8)
    np.testing.assert_array_equal(found["y"], np.maximum(x, 0))
    np.testing.assert_array_equal(found["z"], x)
    np.testing.assert_array_equal(found["v"], np.maximum(x, 0).reshape(8, 4))
    assert not np.shares_memory(found["z"], X)


def test_a_walk_is_cut_where_a_window_of_work_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    made = planned(CPU8)
    launches = tuple(made.launches())
    assert list(walk.legs(made, lambda _: True)) == [launches]
    window = max(map(commands.work_of, launches))
    monkeypatch.setattr(walk, "WINDOW", window)
    cut = [leg for leg in walk.legs(made, lambda _: True) if not isinstance(leg, HostStep)]
    assert tuple(k for leg in cut for k in leg) == launches
    assert len(cut) > 1
    assert all(sum(map(commands.work_of, leg)) <= window for leg in cut)
    parts = list(walk.legs(made, lambda launch: launch is not launches[3]))
    assert (launches[3],) in parts
    assert tuple(k for leg in parts if not isinstance(leg, HostStep) for k in leg) == launches


def test_only_pocl_on_a_processor_is_walked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert walk._possible("Portable Computing Language", planned(CPU8))
    assert not walk._possible("rusticl", planned(CPU8))
    assert not walk._possible("Portable Computing Language", planned(POLARIS))
    monkeypatch.setenv("REKINDLE_NO_WALK", "1")
    assert not walk._possible("Portable Computing Language", planned(CPU8))


def test_every_template_becomes_a_function() -> None:
    for path in sorted(Path(kernels.__file__).parent.glob("[a-z]*.cl")):
        text = source_text(path.stem)
        entries = re.findall(r"__kernel\b", text)
        if not entries:
            continue
        launch = Launch(path.stem, "f", (("A", "1"),), (), (1,), (1,))
        made = walk_source.walk_source([walk_source.kind_of(launch)], wide=False)
        assert made.count("__kernel ") == 2  # `walk` and `address`
        assert len(re.findall(r"noinline\)\) void NAME\(", made)) == len(entries), path.name


def test_numbers_are_words_of_the_table() -> None:
    assert walk_source.word(np.int32(-7)) == -7
    assert walk_source.word(np.uint32(4_000_000_000)) == 4_000_000_000
    assert walk_source.word(np.int64(-(2**40))) == -(2**40)
    assert np.int32(walk_source.word(np.float32(-1.5))).view(np.float32) == -1.5
