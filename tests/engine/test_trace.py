"""A trace tells when each command ran, in the order that the data demand."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from rekindle._types import DType
from rekindle.device import select_device
from rekindle.engine.executor import Executor
from rekindle.engine.plan import HostStep, plan
from rekindle.engine.trace import Span, Trace
from rekindle.engine.weights import Weights
from rekindle.graph.ir import Array, Graph, Node, Value

SHAPE = (3, 127)


def chain() -> Graph:
    """exp, then a node that no engine knows, then negation."""
    nodes = [
        Node("Exp", ("x",), ("a",)),
        Node("Elsewhere", ("a", "", "a"), ("b", "c"), domain="rekindle"),
        Node("Neg", ("b",), ("y",)),
    ]
    names = ("x", "a", "b", "c", "y")
    values = {n: Value(n, DType.FLOAT32, SHAPE) for n in names}
    return Graph("chain", ("x",), ("y", "c"), nodes, values, {}, {"": 17})


@pytest.mark.opencl
def test_host_functions_run_between_kernels_and_every_command_is_on_one_clock() -> None:
    seen: list[list[bool]] = []

    def elsewhere(inputs: list[Array | None]) -> list[Array]:
        first, absent, second = inputs
        seen.append([first is second, absent is None])
        assert first is not None
        return [first + 1, first * 2]

    device = select_device()
    made = plan(chain(), device.target())
    steps = tuple(
        replace(step, run=elsewhere) if isinstance(step, HostStep) else step for step in made.steps
    )
    trace = Trace(device.opencl())
    weights = Weights(device.opencl())
    executor = Executor(replace(made, steps=steps), device.opencl(), weights, trace)
    x = np.linspace(-3, 3, 3 * 127, dtype=np.float32).reshape(SHAPE)
    began = time.perf_counter_ns()
    outputs = executor.run({"x": x})
    ended = time.perf_counter_ns()
    spans = trace.spans()
    executor.release()
    np.testing.assert_allclose(outputs["y"], -(np.exp(x) + 1), rtol=1e-5)
    np.testing.assert_allclose(outputs["c"], np.exp(x) * 2, rtol=1e-5)
    assert seen == [[True, True]]
    assert [s.kind for s in spans] == [
        "upload", "kernel", "download", "host", "upload", "kernel", "download",
    ]  # fmt: skip
    assert [s.name for s in spans] == ["x", "a", "a", "b", "b", "y", "y"]
    assert {s.thread for s in spans} == {0}
    slack_ns = 1_000_000  # the clocks are matched to some tens of microseconds
    assert all(a.end_ns <= b.start_ns + slack_ns for a, b in pairwise(spans))
    assert began - slack_ns <= spans[0].start_ns
    assert spans[-1].end_ns <= ended + slack_ns


def test_overlap_is_the_time_that_two_spans_share() -> None:
    a = Span("upload", "x", 10, 20, 0)
    assert a.overlap_ns(Span("kernel", "y", 15, 30, 1)) == 5
    assert a.overlap_ns(Span("kernel", "y", 12, 13, 1)) == 1
    assert a.overlap_ns(Span("kernel", "y", 20, 30, 1)) == 0
    assert a.overlap_ns(Span("kernel", "y", 0, 5, 1)) == 0
