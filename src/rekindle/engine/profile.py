"""Where the time of a plan goes: every launch, transfer and host step, from OpenCL's own events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rekindle.device import Device
from rekindle.engine.executor import Executor
from rekindle.engine.kernels import Launch
from rekindle.engine.peaks import Peaks, peaks
from rekindle.engine.plan import HostStep, Plan
from rekindle.engine.trace import Span, Trace
from rekindle.engine.weights import Weights
from rekindle.graph.ir import Array

_WARMUP = 2


@dataclass(frozen=True)
class LaunchTime:
    """One launch: the least of its times over the runs (disturbance only adds), and its work."""

    node: str
    operator: str
    kernel: str
    """Name of the kernel spec that made the launch."""
    entry: str
    tuned: str
    """Kernel and variant, where a tuning record decided; else empty."""
    seconds: float
    flops: int
    moved_bytes: int
    roofline: float
    """The least time that the measured peaks allow, over the time taken. Above 1 where tensors
    come from the caches, which are faster than the memory that was measured."""
    limit: Literal["compute", "memory"]
    global_size: tuple[int, ...]
    local_size: tuple[int, ...] | None

    @property
    def flops_s(self) -> float:
        return self.flops / self.seconds

    @property
    def bytes_s(self) -> float:
        return self.moved_bytes / self.seconds


@dataclass(frozen=True)
class Profile:
    """Figures of `runs` runs; `spans` are those of the quickest, which was disturbed least."""

    plan: Plan
    device: str
    peaks: Peaks
    runs: int
    launches: tuple[LaunchTime, ...]
    spans: tuple[Span, ...]

    @property
    def run_s(self) -> float:
        """From the start of the first command to the end of the last, in the run shown."""
        return (max(s.end_ns for s in self.spans) - self.spans[0].start_ns) * 1e-9

    def seconds(self, kind: str) -> float:
        """Time in spans of one kind, in the run shown."""
        return sum(s.end_ns - s.start_ns for s in self.spans if s.kind == kind) * 1e-9

    @property
    def gap_s(self) -> float:
        """Time in which nothing ran: between the commands."""
        busy = sum(self.seconds(kind) for kind in ("kernel", "upload", "download", "host"))
        return max(self.run_s - busy, 0.0)

    def to_dict(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "runs": self.runs,
            "run_s": self.run_s,
            "kernels_s": self.seconds("kernel"),
            "uploads_s": self.seconds("upload"),
            "downloads_s": self.seconds("download"),
            "host_s": self.seconds("host"),
            "gaps_s": self.gap_s,
            "peaks": asdict(self.peaks),
            "device_bytes": self.plan.device_bytes,
            "launches": [
                asdict(t) | {"flops_s": t.flops_s, "bytes_s": t.bytes_s} for t in self.launches
            ],
        }


def profile(plan: Plan, device: Device, feeds: Mapping[str, Array], runs: int = 10) -> Profile:
    """Run a plan `runs` times with every command timed.

    The times of kernels are the device's; the events cost some microseconds a launch, so that the
    whole run is a little longer than one without them. Raises as running does.
    """
    handle = device.opencl()
    weights, trace = Weights(handle), Trace(handle)
    executor = Executor(plan, handle, weights, trace)
    try:
        for _ in range(_WARMUP + runs):
            executor.run(feeds)
        spans = trace.spans()
    finally:
        executor.release()
        weights.release()
    each = len(spans) // (_WARMUP + runs)
    taken = [spans[k * each : (k + 1) * each] for k in range(_WARMUP, _WARMUP + runs)]
    taken.sort(key=lambda run: max(s.end_ns for s in run) - run[0].start_ns)
    roof = peaks(device)
    return Profile(
        plan, device.name, roof, runs, tuple(_times(plan, taken, roof)),
        tuple(taken[0]),
    )  # fmt: skip


def _times(plan: Plan, runs: Sequence[Sequence[Span]], roof: Peaks) -> Iterator[LaunchTime]:
    """An in-order queue: the kernels of a run come in the order of the plan's launches."""
    columns = zip(*([s for s in run if s.kind == "kernel"] for run in runs), strict=True)
    for (node, operator, launch), spans in zip(_launches(plan), columns, strict=True):
        seconds = max(min(s.end_ns - s.start_ns for s in spans), 1) * 1e-9
        least = roof.seconds(launch.flops, launch.bytes_moved)
        ridge = roof.flops_s / roof.bandwidth_bytes_s
        yield LaunchTime(
            node=node,
            operator=operator,
            kernel=launch.chosen or launch.kernel,
            entry=launch.entry,
            tuned=launch.tuned,
            seconds=seconds,
            flops=launch.flops,
            moved_bytes=launch.bytes_moved,
            roofline=least / seconds,
            limit="compute" if launch.flops >= launch.bytes_moved * ridge else "memory",
            global_size=launch.global_size,
            local_size=launch.local_size,
        )


def _launches(plan: Plan) -> Iterator[tuple[str, str, Launch]]:
    for step in plan.steps:
        if not isinstance(step, HostStep):
            label = step.node.name or step.node.outputs[0]
            yield from ((label, step.node.qualified, launch) for launch in step.launches)


def chrome_trace(found: Profile) -> dict[str, Any]:
    """The run in the Trace Event Format that Chrome's tracing page and Perfetto read.

    One row each for transfers, kernels and the host; times in microseconds from the run's start.
    """
    rows = {"upload": 1, "kernel": 2, "download": 3, "host": 4}
    start = found.spans[0].start_ns
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "tid": row, "name": "thread_name", "args": {"name": kind}}
        for kind, row in rows.items()
    ]
    for span, launch in with_launches(found):
        facts = {} if launch is None else _facts(launch)
        events.append(
            {
                "ph": "X", "pid": 1, "tid": rows[span.kind], "cat": span.kind, "args": facts,
                "name": span.name if launch is None else f"{launch.kernel} {span.name}",
                "ts": (span.start_ns - start) / 1e3, "dur": (span.end_ns - span.start_ns) / 1e3,
            }
        )  # fmt: skip
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def with_launches(found: Profile) -> Iterator[tuple[Span, LaunchTime | None]]:
    """The spans of the run shown, each kernel with its launch."""
    launches = iter(found.launches)
    for span in found.spans:
        launch = None
        if span.kind == "kernel":
            with suppress(StopIteration):
                launch = next(launches)
        yield span, launch


def _facts(launch: LaunchTime) -> dict[str, Any]:
    return {
        "operator": launch.operator,
        "entry": launch.entry,
        "GFLOP/s": round(launch.flops_s / 1e9, 2),
        "GB/s": round(launch.bytes_s / 1e9, 2),
        "of roofline": round(launch.roofline, 3),
        "global size": launch.global_size,
        "local size": launch.local_size,
    }
