"""Within a memory limit: the same answers, the true number of bytes, or a refusal with figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyopencl as cl
import pytest

from rekindle import open_session
from rekindle._errors import MemoryLimitError
from rekindle._types import Target
from rekindle.device import Device, select_device
from rekindle.engine import allocation
from rekindle.engine.executor import Executor
from rekindle.engine.streaming import REGIONS, residency
from rekindle.engine.trace import Trace
from rekindle.engine.weights import Weights
from rekindle.graph import onnx_io, passes
from rekindle.runtime.providers.opencl import plan_for
from tests.engine.graphs import chain, classifier, write

pytestmark = pytest.mark.opencl

WIDTH, LAYERS = 64, 9
LAYER_BYTES = 4 * WIDTH * (WIDTH + 1)


def rows(batch: int, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, width)).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(chain(LAYERS, WIDTH), tmp_path_factory.mktemp("model"))


def fake_target(monkeypatch: pytest.MonkeyPatch, **facts: int) -> None:
    """The device with other figures than its driver reports."""
    real: Callable[[Device], Target] = Device.target
    monkeypatch.setattr(Device, "target", lambda self: replace(real(self), **facts))


@pytest.mark.parametrize("layers_kept", [8, 5, 3, 2])
def test_streamed_weights_give_the_same_bits(path: Path, layers_kept: int) -> None:
    with open_session(path, provider="opencl") as free:
        expected = [free.run({"x": rows(n)})["y"] for n in (1, 3)]
        assert free.placement.streaming is None
        arena_bytes = 4 * 1024
    limit = layers_kept * LAYER_BYTES + arena_bytes
    with open_session(path, provider="opencl", memory_limit=limit) as tight:
        for _ in range(3):
            for n, want in zip((1, 3), expected, strict=True):
                np.testing.assert_array_equal(tight.run({"x": rows(n)})["y"], want)
                assert tight.device_bytes is not None
                assert tight.device_bytes <= limit
        streaming = tight.placement.streaming
        assert streaming is not None
        assert streaming.limit_bytes == limit
        excess = streaming.streamed_bytes + streaming.resident_bytes - LAYERS * LAYER_BYTES
        assert 0 <= excess < 64  # a kernel's own table
        assert streaming.streamed_bytes >= (LAYERS - layers_kept) * LAYER_BYTES
        assert "MB of weights streamed in each run" in tight.placement.summary
        facts = tight.placement.to_dict()["streaming"]
        assert facts["streamed_bytes"] == streaming.streamed_bytes


def test_a_convolutional_network_too(tmp_path: Path) -> None:
    path = write(classifier(64), tmp_path)
    x = np.random.default_rng(0).standard_normal((1, 3, 17, 19)).astype(np.float32)
    with open_session(path, provider="opencl") as free:
        expected = free.run({"x": x})["y"]
        whole = free.device_bytes
        assert whole is not None
    with open_session(path, provider="opencl", memory_limit=whole - 1) as tight:
        np.testing.assert_array_equal(tight.run({"x": x})["y"], expected)
        assert tight.placement.streaming is not None
        assert tight.device_bytes is not None
        assert tight.device_bytes < whole


def test_copies_and_kernels_take_turns_on_the_regions(path: Path) -> None:
    """By the device's own clock: no reader before its copy, no copy before the last reader."""
    device = select_device()
    graph = passes.run(onnx_io.load(path), passes.PORTABLE)
    plan = plan_for(graph, device.target(), {"x": (2, WIDTH)})
    kept = residency(plan, plan.memory.arena_bytes + 3 * LAYER_BYTES)
    assert len(kept.stages) >= 5
    weights, trace = Weights(device.opencl()), Trace(device.opencl())
    executor = Executor(plan, device.opencl(), weights, trace, kept)
    for _ in range(3):
        before = len(trace.spans())
        executor.run({"x": rows(2)})
        spans = trace.spans()[before:]
        kernels = [s for s in spans if s.kind == "kernel"]
        copies = [s for s in spans if s.kind == "upload" and s.name in plan.constants]
        assert len(kernels) == len(list(plan.launches()))
        at = 0
        ends = []
        for stage in kept.stages:
            sent = copies[at : at + len(stage.offsets)]
            at += len(sent)
            assert {s.name for s in sent} == stage.offsets.keys()
            assert sent[-1].end_ns <= kernels[stage.first].start_ns
            ends.append((sent[0].start_ns, kernels[stage.last].end_ns))
        assert at == len(copies)
        for (_, read_ns), (sent_ns, _) in zip(ends, ends[REGIONS:], strict=False):
            assert read_ns <= sent_ns
        assert all(a.end_ns <= b.start_ns for a, b in pairwise(kernels))
    executor.release()
    weights.release()


def test_what_cannot_run_even_so_is_refused_with_the_figures(path: Path) -> None:
    with pytest.raises(MemoryLimitError) as refused:
        open_session(path, provider="opencl", memory_limit=20_000)
    words = refused.value.message
    assert f"weights {LAYERS * LAYER_BYTES // 1000:,}," in words
    assert "the limit is 20,000" in words
    least = int(words.split("at least ")[1].split()[0].replace(",", ""))
    with open_session(path, provider="opencl", memory_limit=least) as opened:
        assert opened.run({"x": rows(1)})["y"].shape == (1, WIDTH)
        assert opened.device_bytes is not None
        assert opened.device_bytes <= least


def test_plans_that_are_kept_stay_within_the_limit_together(path: Path) -> None:
    limit = LAYERS * LAYER_BYTES + 3 * 2 * 4 * WIDTH * 512
    with open_session(path, provider="opencl", memory_limit=limit) as opened:
        held = []
        for batch in (512, 256, 500, 511, 512, 1):
            y = opened.run({"x": rows(batch)})["y"]
            assert np.isfinite(y).all()
            assert opened.device_bytes is not None
            held.append(opened.device_bytes)
        assert max(held) <= limit
        assert max(held) > LAYERS * LAYER_BYTES + 2 * 2 * 4 * WIDTH * 500  # several at once


def test_placement_is_that_of_the_latest_run(path: Path) -> None:
    """A small batch leaves room for all weights, a large one does not."""
    with open_session(
        path, provider="opencl", memory_limit=LAYERS * LAYER_BYTES + 60_000
    ) as opened:
        for batch, streams in ((1, False), (120, True), (1, False)):
            opened.run({"x": rows(batch)})
            assert (opened.placement.streaming is not None) == streams


def test_weights_stream_where_the_device_itself_is_too_small(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_session(path, provider="opencl") as free:
        expected = free.run({"x": rows(1)})["y"]
    fake_target(monkeypatch, global_bytes=5 * LAYER_BYTES)
    with open_session(path, provider="opencl") as opened:
        np.testing.assert_array_equal(opened.run({"x": rows(1)})["y"], expected)
        assert opened.placement.streaming is not None


def test_several_arenas_where_no_single_buffer_may_be_so_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(classifier(), tmp_path)
    x = np.random.default_rng(0).standard_normal((2, 3, 17, 19)).astype(np.float32)
    with open_session(path, provider="opencl") as free:
        expected = free.run({"x": x})["y"]
    asked: list[int] = []
    real = allocation.cl.Buffer

    def spy(context: cl.Context, flags: int, size: int = 0, hostbuf: object = None) -> cl.Buffer:
        asked.append(size)
        return real(context, flags, size, hostbuf=hostbuf)

    largest = 24_000
    fake_target(monkeypatch, max_alloc_bytes=largest)
    monkeypatch.setattr(allocation.cl, "Buffer", spy)
    with open_session(path, provider="opencl") as opened:
        np.testing.assert_array_equal(opened.run({"x": x})["y"], expected)
    arenas = [size for size in asked if size]
    assert len(arenas) > 1
    assert max(arenas) <= largest
    with open_session(path, provider="opencl") as opened:
        with pytest.raises(MemoryLimitError, match="one buffer of"):
            opened.run({"x": np.repeat(x, 64, axis=0)})
        np.testing.assert_array_equal(opened.run({"x": x})["y"], expected)
