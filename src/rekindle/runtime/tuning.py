"""Tuning for a model: its calls by class, the search, and what it is worth."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rekindle._types import DType, Layout, Target
from rekindle.device import Device
from rekindle.engine.alternatives import buildable
from rekindle.engine.choices import Setting, settings
from rekindle.engine.executor import Executor
from rekindle.engine.kernels import Context
from rekindle.engine.tuner.records import TuningRecords
from rekindle.engine.tuner.search import Task
from rekindle.engine.tuner.workload import workload
from rekindle.engine.weights import Weights
from rekindle.graph import passes
from rekindle.graph.ir import Array, Graph, Value
from rekindle.graph.lowering import LogicalCall
from rekindle.graph.reference import difference
from rekindle.runtime.providers.opencl import plan_for

_ROUNDS = 15
_STEM_CHANNELS = 4
"""A network's first layer has no more; its input lies row-major, as it was fed."""


class _Listener:
    """Records that know nothing, and keep what a planner asks."""

    def __init__(self) -> None:
        self.asked: list[tuple[LogicalCall, Context]] = []

    def best(self, call: LogicalCall, context: Context) -> Setting | None:
        self.asked.append((call, context))
        return None


@dataclass(frozen=True)
class TunedLayer:
    """One class of calls: the heuristic's choice and the fastest one known."""

    workload: str
    layers: tuple[str, ...]
    heuristic: str
    tuned: str
    """The heuristic's again where nothing is faster."""
    heuristic_s: float | None
    """None: not measured yet."""
    tuned_s: float | None
    measured: int
    """Variants measured, of `space`."""
    space: int
    problem: str = ""
    """Why nothing could be measured."""

    @property
    def gain(self) -> float | None:
        """How many times as fast as the heuristic's choice; 1 where that is the fastest."""
        if self.heuristic_s is None or self.tuned_s is None:
            return None
        return self.heuristic_s / self.tuned_s


def geometric_mean(rows: Iterable[TunedLayer]) -> float | None:
    """Of the gains, each layer of a class counted; None where nothing is measured."""
    gains = [gain for row in rows if (gain := row.gain) for _ in row.layers]
    return statistics.geometric_mean(gains) if gains else None


def model_calls(
    graph: Graph,
    target: Target,
    shapes: Mapping[str, tuple[int, ...]],
    precision: str = "model",
) -> list[tuple[LogicalCall, Context]]:
    """Every call of a loaded model's plan that needs a kernel."""
    listener = _Listener()
    portable = passes.run(graph, passes.portable(precision))
    plan_for(portable, target, shapes, precision, listener)
    return listener.asked


def tasks(calls: Iterable[tuple[LogicalCall, Context]]) -> list[Task]:
    """One task for each class; calls that have one variant only, or none, are left out."""
    found: dict[str, Task] = {}
    for call, context in calls:
        name = workload(call, context)
        if name is None:
            continue
        if name in found:
            found[name].layers.append(call.node)
        elif sum(map(len, settings(call, context))) > 1:
            found[name] = Task(name, call, context, [call.node])
    return list(found.values())


def product_calls(target: Target, m: int, n: int, k: int) -> list[tuple[LogicalCall, Context]]:
    """(m, k) by (k, n), with b constant, as in a layer, and computed, as in attention."""
    import numpy as np

    a, b, y = (_value(name, s) for name, s in (("a", (m, k)), ("b", (k, n)), ("y", (m, n))))
    params = {"transpose_a": False, "transpose_b": False, "epilogue": None, "decode": None}
    weights = np.random.default_rng(0).standard_normal((k, n), np.float32)
    return [
        (
            LogicalCall("matmul", (a, b), y, params, f"gemm {m}x{n}x{k}, {kind}"),
            Context(target, constants.get),
        )
        for kind, constants in (("weights", {"b": weights}), ("two inputs", {}))
    ]


@dataclass(frozen=True)
class Convolution:
    """Sizes of a convolution with "same" padding: x (n, c, h, w), filters (m, c / group, k, k)."""

    n: int
    c: int
    height: int
    width: int
    m: int
    kernel: int
    stride: int = 1
    group: int = 1

    def call(self, target: Target) -> tuple[LogicalCall, Context]:
        """As it stands inside a network on that target: channels in blocks."""
        import numpy as np

        block = Layout(target.channel_block)
        pad, step = self.kernel // 2, self.stride
        out = [(size + 2 * pad - self.kernel) // step + 1 for size in (self.height, self.width)]
        inner = Layout() if self.c <= _STEM_CHANNELS else block
        x = Value("x", DType.FLOAT32, (self.n, self.c, self.height, self.width), inner)
        filters = (self.m, self.c // self.group, self.kernel, self.kernel)
        w = np.random.default_rng(0).standard_normal(filters, np.float32) / self.kernel
        params = {
            "strides": (step, step),
            "pads": (pad,) * 4,
            "dilations": (1, 1),
            "group": self.group,
            "epilogue": None,
            "decode": None,
        }
        y = Value("y", DType.FLOAT32, (self.n, self.m, *out), block)
        name = f"conv {self.n}x{self.c}x{self.height}x{self.width}, {self.m} of {self.kernel}"
        made = LogicalCall("conv", (x, _value("w", filters), None), y, params, name)
        return made, Context(target, {"w": w}.get)


def _value(name: str, shape: tuple[int, ...]) -> Value:
    return Value(name, DType.FLOAT32, shape)


def layers(found: Sequence[Task], records: TuningRecords) -> list[TunedLayer]:
    """What is known of each task, the longest time first."""
    rows = [_layer(task, records) for task in found]
    return sorted(rows, key=lambda row: -(row.heuristic_s or 0.0) * len(row.layers))


def known_layers(records: TuningRecords) -> list[TunedLayer]:
    """Everything measured in an environment, by class; of which layers is not known."""
    rows = []
    for name, entries in records.table.items():
        if best := records.fastest(name):
            rows.append(
                TunedLayer(
                    name,
                    ("",),
                    str(best.against),
                    str(best.chosen),
                    best.heuristic_s,
                    best.chosen_s,
                    len(entries),
                    0,
                )
            )
    return sorted(rows, key=lambda row: row.workload)


def _layer(task: Task, records: TuningRecords) -> TunedLayer:
    entries = records.table.get(task.name, {})
    space = {str(s) for s in task.settings}
    best = records.fastest(task.name)
    own = str(task.heuristic)
    facts = (task.name, tuple(task.layers), own)
    counts = (len(space & entries.keys()), len(space), task.failure)
    if best is None:
        return TunedLayer(*facts, own, None, None, *counts)
    tuned = str(best.setting) if best.faster else own
    return TunedLayer(*facts, tuned, best.heuristic_s, best.chosen_s, *counts)


@dataclass(frozen=True)
class WholeModel:
    """A model planned by the heuristics and by the records, run in turn."""

    heuristic_ms: float
    tuned_ms: float
    """Medians, wall clock, inputs on the host to outputs on the host."""
    ratio: float
    """Median over the rounds of the tuned time over the other in the same round."""
    difference: float
    """Largest difference between outputs, of the largest value."""


def whole_model(
    graph: Graph,
    device: Device,
    feeds: Mapping[str, Array],
    records: TuningRecords,
    precision: str = "model",
    rounds: int = _ROUNDS,
) -> WholeModel:
    """Run a loaded model both ways, A B A B. Raises as opening and running a session does."""
    portable = passes.run(graph, passes.portable(precision))
    shapes = {name: array.shape for name, array in feeds.items()}
    weights = Weights(device.opencl())
    spent_s: tuple[list[float], list[float]] = ([], [])
    executors: list[Executor] = []
    try:
        for own in (None, records):
            planned = partial(plan_for, portable, shapes=shapes, precision=precision, records=own)
            made = buildable(device, planned(device.target()), planned)
            executors.append(Executor(made, device.opencl(), weights))
        outputs = [executor.run(feeds) for executor in executors]
        for _ in range(rounds):
            for executor, spent in zip(executors, spent_s, strict=True):
                start = time.perf_counter()
                executor.run(feeds)
                spent.append(time.perf_counter() - start)
    finally:
        for executor in executors:
            executor.release()
        weights.release()
    expected, found = outputs
    return WholeModel(
        statistics.median(spent_s[0]) * 1e3,
        statistics.median(spent_s[1]) * 1e3,
        statistics.median(b / a for a, b in zip(*spent_s, strict=True)),
        max((difference(found[name], expected[name]) for name in expected), default=0.0),
    )


def to_dict(rows: Sequence[TunedLayer]) -> list[dict[str, Any]]:
    return [vars(row) | {"layers": list(row.layers), "gain": row.gain} for row in rows]
