"""Hybrid plans and streams: what a run costs to dispatch, and how much work overlaps.

    python benchmarks/hybrid.py [MODEL] [--batch 8] [--inputs 24]

Dispatch is everything `run` does before the executor starts, with the plan there. Overlap comes
from the timestamps of OpenCL's events and of the parts on the CPU: for every pair of kinds, the
milliseconds in which work of the one kind ran for one input and work of the other for another. The
division is forced (the first half of the units on the device), so that both sides have work on any
machine; where the device is the processor itself, nothing here says what a card would gain.
Writes benchmarks/results/hybrid.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from machine import describe

from rekindle import hub
from rekindle.device import select_device
from rekindle.engine.executor import Executor
from rekindle.engine.trace import Span
from rekindle.graph import onnx_io
from rekindle.graph.ir import Array
from rekindle.runtime._options import Options
from rekindle.runtime.benchmark import random_feeds
from rekindle.runtime.hybrid.calibration import calibration_for
from rekindle.runtime.hybrid.partition import Problem, Traffic, partition
from rekindle.runtime.hybrid.planner import Planner
from rekindle.runtime.providers.opencl import OpenCLBackend
from rekindle.runtime.stream import Stream

RESULT = Path(__file__).parent / "results" / "hybrid.json"
DEPTH = 2
Feeds = Mapping[str, Array]


def halves(problem: Problem) -> list[bool]:
    count = len(problem.device_ns)
    return [k < count // 2 and problem.device_ns[k] is not None for k in range(count)]


def opened(model: Path, choose: Callable[[Problem], Sequence[bool]] | None) -> OpenCLBackend:
    device = select_device()
    graph = onnx_io.load(model)
    if choose is None:
        return OpenCLBackend(graph, device, Options(), "")
    planner = Planner(calibration_for(device), None, choose)
    return OpenCLBackend(graph, device, Options(), "", "hybrid", planner)


def dispatch_us(backend: OpenCLBackend, feeds: Feeds, repeats: int = 2000) -> dict[str, float]:
    """Median and 99th percentile of a run whose executor does nothing, in microseconds."""
    backend.run(feeds)
    real = Executor.run
    Executor.run = lambda _self, _feeds: {}  # type: ignore[method-assign]
    spent = []
    try:
        for _ in range(repeats):
            start = time.perf_counter_ns()
            backend.run(feeds)
            spent.append((time.perf_counter_ns() - start) / 1e3)
    finally:
        Executor.run = real  # type: ignore[method-assign]
    return {"median": statistics.median(spent), "p99": sorted(spent)[repeats * 99 // 100]}


def streamed(backend: OpenCLBackend, feeds: Feeds, count: int) -> dict[str, object]:
    """Inputs per second one after another and as a stream, and what overlapped in the stream."""
    lanes = backend.lanes(DEPTH)
    for lane in lanes:
        lane(feeds)  # plans and compiles

    def inputs() -> Iterator[Feeds]:
        return (feeds for _ in range(count))

    start = time.perf_counter()
    for item in inputs():
        backend.run(item)
    single_s = time.perf_counter() - start
    start = time.perf_counter()
    with Stream(inputs(), lambda item: item, lanes, DEPTH) as results:
        done = sum(1 for _ in results)
    stream_s = time.perf_counter() - start
    assert done == count
    trace = backend.trace()
    lanes = backend.lanes(DEPTH)
    for lane in lanes:
        lane(feeds)
    began_ns = time.perf_counter_ns()
    with Stream(inputs(), lambda item: item, lanes, DEPTH) as results:
        done = sum(1 for _ in results)
    spans = [span for span in trace.spans() if span.start_ns >= began_ns]
    return {
        "single_per_s": count / single_s,
        "stream_per_s": count / stream_s,
        "busy_ms": busy_ms(spans),
        "overlap_ms": overlap_ms(spans),
    }


def busy_ms(spans: Sequence[Span]) -> dict[str, float]:
    spent: Counter[str] = Counter()
    for span in spans:
        spent[span.kind] += span.end_ns - span.start_ns
    return {kind: ns / 1e6 for kind, ns in sorted(spent.items())}


def overlap_ms(spans: Sequence[Span]) -> dict[str, float]:
    """By pair of kinds; spans of different threads only: one thread drives one input."""
    shared: Counter[str] = Counter()
    for a, b in combinations(spans, 2):
        if a.thread != b.thread and (both := a.overlap_ns(b)):
            shared[" and ".join(sorted((a.kind, b.kind)))] += both
    return {pair: ns / 1e6 for pair, ns in sorted(shared.items())}


def decision_ms() -> dict[str, float]:
    """How long dividing takes when a plan is made: a chain of 2000 units, sides nearly equal."""
    rng = random.Random(0)
    cpu = [rng.randint(20_000, 400_000) for _ in range(2000)]
    device = [round(cost * rng.uniform(0.7, 1.4)) for cost in cpu]
    move = [rng.randint(20_000, 300_000) for _ in range(2001)]
    values = [Traffic(None, (0,), False, move[0], move[0])]
    values += [Traffic(k, (k + 1,) if k < 1999 else (), k == 1999, move[k], move[k])
               for k in range(2000)]  # fmt: skip
    start = time.perf_counter()
    partition(Problem(device, cpu, values))
    return {"partition_2000_units": (time.perf_counter() - start) * 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="cifar10-resnet")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--inputs", type=int, default=24)
    options = parser.parse_args()
    model, device = hub.resolve(options.model).path, select_device()
    record: dict[str, object] = {
        "machine": describe(),
        "device": device.name,
        "platform": device.platform_name,
        "device_is_the_processor": device.is_host_cpu,
        "model": options.model,
        "batch": options.batch,
        "inputs": options.inputs,
        "depth": DEPTH,
        "calibration": calibration_for(device).to_dict(),
    }
    for name, choose in (("opencl", None), ("hybrid", halves)):
        backend = opened(model, choose)
        spec = backend.inputs[0]
        sizes = {spec.shape[0]: options.batch} if isinstance(spec.shape[0], str) else {}
        feeds = random_feeds(backend, sizes)  # type: ignore[arg-type]
        told = {"dispatch_us": dispatch_us(backend, feeds)}
        record[name] = told | streamed(backend, feeds, options.inputs)
        backend.close()
        print(name, json.dumps(record[name], indent=2))
    record |= decision_ms()
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
