"""Variants of one call against each other on a device: results first, then times, in turn."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyopencl as cl

from rekindle._errors import DeviceError, KernelError, MemoryLimitError
from rekindle.device import Device
from rekindle.engine.choices import Setting, fingerprint
from rekindle.engine.compiler import compiler_for
from rekindle.engine.executor import Executor
from rekindle.engine.kernels import Context
from rekindle.engine.plan import Plan, plan_call
from rekindle.engine.single_node import as_stored, tolerance_of
from rekindle.engine.trace import Trace
from rekindle.engine.tuner.records import Measurement
from rekindle.engine.weights import Weights
from rekindle.graph.ir import Array, Value, numpy_dtype
from rekindle.graph.lowering import LogicalCall
from rekindle.graph.reference import difference

_ROUNDS = 7
_LONG_S = 0.02
"""Calls that take longer are less disturbed, in proportion: three rounds do."""
_FEW_ROUNDS = 3
_HOPELESS = 1.5
"""A variant that was never nearer than this to the heuristic's time in two rounds is left."""


@dataclass(frozen=True)
class _Fixed:
    """Records in which one setting is best."""

    setting: Setting

    def best(self, call: LogicalCall, context: Context) -> Setting | None:
        return self.setting


@dataclass
class _Runner:
    """One variant, ready to run; `spent_s` of each round that counts."""

    setting: Setting
    plan: Plan
    executor: Executor
    trace: Trace
    spent_s: list[float] = field(default_factory=list)
    problem: str = ""

    def run(self, feeds: Mapping[str, Array]) -> tuple[Array, float]:
        """The output, and the seconds from the first kernel's start to the last one's end."""
        (output,) = self.executor.run(feeds).values()
        spans = [s for s in self.trace.spans() if s.kind == "kernel"]
        spans = spans[-sum(1 for _ in self.plan.launches()) :]
        return output, max(s.end_ns for s in spans) * 1e-9 - spans[0].start_ns * 1e-9


def compare(
    device: Device,
    call: LogicalCall,
    context: Context,
    settings: Sequence[Setting],
    rounds: int = _ROUNDS,
) -> list[Measurement]:
    """Measure `settings` beside the first of them, the heuristic's, in turn: A B C A B C ...

    The call runs by itself on seeded random inputs. What the driver refuses is "broken"; what
    gives another result than the heuristic's variant, on either of two inputs, is "wrong" and not
    timed further. KernelError, MemoryLimitError where the heuristic's variant itself cannot run.
    """
    first = settings[0]
    plans = {s: plan_call(call, context, _Fixed(s)) for s in settings}
    for setting, made in plans.items():
        if setting.variant and not any(launch.tuned for launch in made.launches()):
            raise ValueError(f"{setting} is not in the declared space of {call.node}")
    refused = _refused(device, plans)
    if first in refused:
        raise KernelError(refused[first])
    weights = Weights(device.opencl())
    runners: list[_Runner] = []
    try:
        for setting, made in plans.items():
            if setting in refused:
                continue
            try:
                runners.append(_open(setting, made, device.opencl(), weights))
            except (MemoryLimitError, DeviceError) as error:
                if setting == first:
                    raise
                refused[setting] = error.message
        _race(runners, call, rounds)
        return _results(plans, runners, refused)
    finally:
        for runner in runners:
            runner.executor.release()
        weights.release()


def _refused(device: Device, plans: Mapping[Setting, Plan]) -> dict[Setting, str]:
    """The variants that the driver does not compile, and what it says; one program if all do."""
    compiler = compiler_for(device.opencl())
    try:
        compiler.prepare([launch for made in plans.values() for launch in made.launches()])
    except KernelError:
        found = {}
        for setting, made in plans.items():
            try:
                compiler.prepare(made.launches())
            except KernelError as error:
                found[setting] = error.message
        return found
    return {}


def _open(setting: Setting, made: Plan, handle: cl.Device, weights: Weights) -> _Runner:
    trace = Trace(handle)
    return _Runner(setting, made, Executor(made, handle, weights, trace), trace)


def _race(runners: Sequence[_Runner], call: LogicalCall, rounds: int) -> None:
    """Every variant's result on one input, then rounds on another whose results are held, too."""
    first, *others = runners
    feeds = _feeds(first.plan, 0)
    expected, _ = first.run(feeds)
    for other in others:
        _hold(other, other.run(feeds)[0], expected, first)
    feeds = _feeds(first.plan, 1)
    for number in range(rounds):
        expected, spent_s = first.run(feeds)
        first.spent_s.append(spent_s)
        for other in others:
            if other.problem or _hopeless(other, first):
                continue
            found, spent_s = other.run(feeds)
            other.spent_s.append(spent_s)
            if number == 0:
                _hold(other, found, expected, first)
        if number + 1 >= _FEW_ROUNDS and min(first.spent_s) > _LONG_S:
            break


def _hold(runner: _Runner, found: Array, expected: Array, first: _Runner) -> None:
    algorithms = (*runner.plan.algorithms, *first.plan.algorithms)
    value = runner.plan.graph.values[runner.plan.graph.outputs[0]]
    off, allowed = difference(found, expected), tolerance_of(value.dtype, algorithms)
    if not off <= allowed:
        runner.problem = f"differs by {off:.1e} of the largest value; {allowed:.0e} is allowed"


def _hopeless(runner: _Runner, first: _Runner) -> bool:
    pairs = list(zip(runner.spent_s, first.spent_s, strict=False))
    return len(pairs) >= 2 and min(own / base for own, base in pairs) > _HOPELESS


def _results(
    plans: Mapping[Setting, Plan], runners: Sequence[_Runner], refused: Mapping[Setting, str]
) -> list[Measurement]:
    first = runners[0]
    by_setting = {runner.setting: runner for runner in runners}
    against = replace(first.setting, sources="")
    base_s = min(first.spent_s)
    found = []
    for setting, made in plans.items():
        named = replace(setting, sources=fingerprint(made.launches()))
        if setting in refused:
            found.append(Measurement(named, against, "broken", reason=refused[setting][:300]))
            continue
        runner = by_setting[setting]
        if runner.problem:
            found.append(Measurement(named, against, "wrong", reason=runner.problem))
            continue
        pairs = list(zip(runner.spent_s, first.spent_s, strict=False))
        seconds = min(runner.spent_s)
        # Disturbance may be long or short: neither the rounds nor the least times alone count.
        ratio = statistics.median(own / base for own, base in pairs)
        ratio = max(ratio, seconds / min(base for _, base in pairs))
        found.append(Measurement(named, against, "ok", seconds, base_s, ratio, len(runner.spent_s)))
    return found


def _feeds(made: Plan, seed: int) -> dict[str, Array]:
    """Normal numbers, as they lie in memory."""
    rng = np.random.default_rng(seed)
    values: Iterable[Value] = (made.graph.values[name] for name in made.graph.inputs)
    return {
        v.name: as_stored(
            rng.standard_normal(v.static_shape, np.float32).astype(numpy_dtype(v.dtype)), v.layout
        )
        for v in values
    }
