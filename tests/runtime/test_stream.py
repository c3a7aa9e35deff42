"""Streams: order, errors in their place, backpressure, a clean end, and work that overlaps."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rekindle import open_session
from rekindle._errors import InputError, MemoryLimitError, RekindleError, UsageError
from rekindle._types import Target
from rekindle.device import select_device
from rekindle.engine.plan import HostStep, Plan
from rekindle.graph import onnx_io
from rekindle.graph.ir import Array, Graph
from rekindle.graph.reference import difference
from rekindle.runtime import Session
from rekindle.runtime._options import Options
from rekindle.runtime.providers.opencl import OpenCLBackend, plan_for
from rekindle.runtime.stream import Lane, Stream
from tests.engine.graphs import classifier, write

PROVIDERS = [pytest.param("opencl", marks=pytest.mark.opencl), "onnxruntime", "reference"]
WAIT_S = 60
"""Only how long a test that fails hangs."""


def image(seed: int, batch: int = 1) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal((batch, 3, 17, 19)).astype(np.float32)}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(classifier(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=PROVIDERS)
def session(request: pytest.FixtureRequest, path: Path) -> Iterator[Session]:
    with open_session(path, provider=request.param) as opened:
        yield opened


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_results_are_those_of_single_runs_in_order(session: Session, depth: int) -> None:
    items = [image(seed, batch=1 + seed % 2) for seed in range(7)]
    with session.stream(iter(items), depth=depth) as results:
        got = [outputs["y"] for outputs in results]
    assert len(got) == len(items)
    for outputs, item in zip(got, items, strict=True):
        np.testing.assert_array_equal(outputs, session.run(item)["y"])


def test_an_error_is_raised_at_its_place_and_the_stream_goes_on(session: Session) -> None:
    items = [image(0), {"x": image(1)["x"][:, :2]}, image(2)]
    results = session.stream(items)
    assert next(results)["y"].shape == (1, 10)
    with pytest.raises(InputError, match="expected shape"):
        next(results)
    np.testing.assert_array_equal(next(results)["y"], session.run(image(2))["y"])
    with pytest.raises(StopIteration):
        next(results)


def test_an_error_of_the_iterable_comes_behind_what_it_gave(session: Session) -> None:
    def broken() -> Iterator[dict[str, Array]]:
        yield image(0)
        raise OSError("the camera is gone")

    results = session.stream(broken())
    assert next(results)["y"].shape == (1, 10)
    with pytest.raises(OSError, match="camera"):
        next(results)
    assert list(results) == []


def test_no_more_than_depth_are_under_way(session: Session) -> None:
    taken: list[int] = []

    def counted() -> Iterator[dict[str, Array]]:
        for seed in range(9):
            taken.append(seed)
            yield image(seed)

    results = session.stream(counted(), depth=2)
    assert taken == []
    for done in range(1, 5):
        next(results)
        assert len(taken) == done + 2  # handed out, and two under way
    results.close()
    assert len(taken) == 6
    assert list(results) == []


@pytest.mark.parametrize("depth", [0, -1, 1.5, True, "2"])
def test_a_depth_must_be_a_number_above_zero(session: Session, depth: int) -> None:
    with pytest.raises(UsageError, match="depth"):
        session.stream([], depth=depth)


def test_what_is_no_iterable_is_refused(session: Session) -> None:
    with pytest.raises(UsageError, match="iterable"):
        session.stream(3)  # type: ignore[arg-type]


def test_closing_the_session_ends_its_streams(path: Path) -> None:
    opened = open_session(path, provider="onnxruntime")
    results = opened.stream(image(seed) for seed in range(5))
    next(results)
    opened.close()
    with pytest.raises(RekindleError, match="session is closed"):
        next(results)
    with pytest.raises(RekindleError, match="session is closed"):
        opened.stream([])


def test_a_failing_run_frees_its_lane() -> None:
    def lane(feeds: object) -> dict[str, Array]:
        if feeds == 1:
            raise ValueError("no")
        return {"y": np.array(feeds)}

    lanes: Sequence[Lane] = [lane]
    results = Stream(range(4), lambda feeds: feeds, lanes, 2)  # type: ignore[arg-type, type-var]
    assert next(results)["y"] == 0
    with pytest.raises(ValueError, match="no"):
        next(results)
    assert [outputs["y"] for outputs in results] == [2, 3]


def test_letting_go_of_a_stream_ends_its_threads(session: Session) -> None:
    before = set(threading.enumerate())
    results = session.stream(image(seed) for seed in range(5))
    next(results)
    assert set(threading.enumerate()) > before
    del results
    assert set(threading.enumerate()) <= before


@pytest.mark.opencl
def test_lanes_that_do_not_fit_beside_each_other_are_refused(path: Path) -> None:
    with open_session(path, provider="opencl") as measured:
        measured.run(image(0))
        weights_and_one = measured.device_bytes
    assert weights_and_one
    with open_session(path, provider="opencl", memory_limit=weights_and_one) as opened:
        results = opened.stream([image(0), image(1)], depth=2)
        with pytest.raises(MemoryLimitError, match="depth=1"):
            [next(results), next(results)]  # whichever comes second finds no room
        assert len(list(opened.stream([image(0), image(1)], depth=1))) == 2


class _Meeting:
    """A host step in which the first run stays until the second one has come as far."""

    def __init__(self) -> None:
        self.arrived = [threading.Event(), threading.Event()]
        self._lock = threading.Lock()
        self._count = 0
        self.open = False

    def __call__(self, inputs: Sequence[Array | None]) -> Sequence[Array]:
        if self.open:
            with self._lock:
                number, self._count = self._count, self._count + 1
            self.arrived[number].set()
            assert self.arrived[1].wait(WAIT_S), "the second input never came"
        (logits,) = inputs
        assert logits is not None
        exp = np.exp(logits - logits.max(1, keepdims=True))
        return [exp / exp.sum(1, keepdims=True)]


@pytest.mark.opencl
def test_the_device_works_on_one_input_while_the_cpu_works_on_another(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    """The second input is given when the first is on the CPU, which waits for the second: so its
    upload, kernels and download must lie inside the first one's time there.
    """
    monkeypatch.setenv("REKINDLE_DISABLE_KERNELS", "softmax")
    meeting = _Meeting()

    def planner(graph: Graph, target: Target, shapes: dict[str, tuple[int, ...]]) -> Plan:
        made = plan_for(graph, target, shapes)
        steps = (replace(s, run=meeting) if isinstance(s, HostStep) else s for s in made.steps)
        return replace(made, steps=tuple(steps))

    def inputs() -> Iterator[dict[str, Array]]:
        yield image(0)
        assert meeting.arrived[0].wait(WAIT_S), "the first input never came"
        yield image(1)

    backend = OpenCLBackend(onnx_io.load(path), select_device(), Options(), "", "hybrid", planner)
    trace = backend.trace()
    lanes = backend.lanes(2)
    for lane in lanes:
        lane(image(9))  # opens it: all lanes wait for that
    meeting.open = True
    with Stream(inputs(), lambda feeds: feeds, lanes, 2) as results:
        got = [outputs["y"] for outputs in results]
    spans = trace.spans()
    backend.close()
    with open_session(path, provider="onnxruntime") as judge:
        for k in range(2):
            assert difference(got[k], judge.run(image(k))["y"]) <= 1e-4
    waited = [span for span in spans if span.kind == "host"][-2]
    for kind in ("upload", "kernel", "download"):
        meets = [
            waited.overlap_ns(s) for s in spans if s.kind == kind and s.thread != waited.thread
        ]
        assert sum(meets) > 0, kind
