"""Latency of a model on several providers, measured interleaved in one process, and agreement.

One run of each provider in turn, A B A B …, so that a machine whose speed drifts treats all
alike. Percentiles are of single runs, wall clock, inputs on the host to outputs on the host.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from rekindle._errors import UsageError
from rekindle._types import TensorSpec
from rekindle.graph.ir import Array, numpy_dtype
from rekindle.graph.reference import difference
from rekindle.runtime import SessionArguments, open_session
from rekindle.runtime.selection import remember
from rekindle.runtime.session import Session

_ON_DEVICE = {"opencl", "hybrid"}
"""Providers that keep to a memory limit."""


@dataclass(frozen=True)
class ProviderResult:
    """Measured figures of one provider; agreement is against the first one listed."""

    provider: str
    device: str
    runs: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    throughput_s: float
    """Items per second at the median, an item being one entry of the first dimension."""
    max_relative_difference: float
    """Max |a - b| / max |b| over all outputs, b being the first provider's."""
    argmax_agreement: float
    """Share of rows whose largest entry of the last axis is the same one."""
    device_bytes: int | None = None
    """Device memory held after the runs; None where the engine hides it."""
    streamed_bytes: int = 0
    """Weights sent to the device in every run, since they do not fit."""


@dataclass(frozen=True)
class BenchmarkReport:
    """What `benchmark` measured, in the order the providers were named."""

    model: str
    shapes: Mapping[str, tuple[int, ...]]
    warmup: int
    repeats: int
    results: Sequence[ProviderResult]
    memory_limit: int | str | None = None
    """What the OpenCL device was limited to, as it was asked for."""
    precision: str = "model"
    """How weights and values were stored on the OpenCL device."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def random_feeds(
    session: Session, sizes: Mapping[str, int] | None = None, seed: int = 0
) -> dict[str, Array]:
    """`feeds_for` the inputs of a session."""
    return feeds_for(session.inputs, sizes, seed)


def feeds_for(
    specs: Sequence[TensorSpec], sizes: Mapping[str, int] | None = None, seed: int = 0
) -> dict[str, Array]:
    """Seeded inputs: normal floats, small integers, random bools.

    `sizes` gives dynamic dimensions by name; the others are 1.
    """
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    known = {d for spec in specs for d in spec.shape if isinstance(d, str)}
    if unknown := (sizes or {}).keys() - known:
        raise UsageError(
            f"the model has no dynamic dimension {', '.join(sorted(unknown))}",
            hint=f"it has {', '.join(sorted(known)) or 'none'}",
        )
    for spec in specs:
        shape = [d if isinstance(d, int) else (sizes or {}).get(d, 1) for d in spec.shape]
        array: Array = (
            rng.standard_normal(shape) if spec.dtype.is_float else rng.integers(0, 2, shape)
        )
        feeds[spec.name] = array.astype(numpy_dtype(spec.dtype))
    return feeds


def benchmark(
    model: str | Path,
    providers: Sequence[str],
    *,
    feeds: Mapping[str, Array] | None = None,
    sizes: Mapping[str, int] | None = None,
    warmup: int = 3,
    repeats: int = 30,
    **opencl: Unpack[SessionArguments],
) -> BenchmarkReport:
    """Measure `model` on each of `providers`; `feeds` None means seeded random inputs.

    `opencl` are arguments of `open_session` (memory_limit, precision) for the providers that use
    an OpenCL device; without one of them the others are asked to honour them. The medians of runs
    without any are remembered for `provider="auto"`.
    """
    if not providers or repeats < 1 or warmup < 0:
        raise UsageError("a benchmark needs at least one provider and one repeat")
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(open_session(model, **arguments))
            for arguments in _arguments(providers, opencl)
        ]
        if feeds is None:
            feeds = random_feeds(sessions[0], sizes)
        outputs = [session.run(feeds) for session in sessions]
        times_s = _interleave(sessions, feeds, warmup, repeats)
        results = [
            _result(session, outputs[0], output, spent, feeds)
            for session, output, spent in zip(sessions, outputs, times_s, strict=True)
        ]
        path = Path(sessions[0].metadata.path)
    memory_limit, precision = opencl.get("memory_limit"), opencl.get("precision", "model")
    if memory_limit is None and precision == "model":
        remember(path, {r.provider: r.p50_ms for r in results})
    shapes = {name: array.shape for name, array in feeds.items()}
    return BenchmarkReport(str(model), shapes, warmup, repeats, results, memory_limit, precision)


def _arguments(providers: Sequence[str], opencl: SessionArguments) -> list[SessionArguments]:
    """Each provider with its arguments; those on the host have none where others are."""
    there = not _ON_DEVICE.isdisjoint(providers)
    given: list[SessionArguments] = []
    for name in providers:
        own: SessionArguments = {"provider": name}
        given.append({**opencl, **own} if name in _ON_DEVICE or not there else own)
    return given


def _interleave(
    sessions: Sequence[Session], feeds: Mapping[str, Array], warmup: int, repeats: int
) -> list[list[float]]:
    times_s: list[list[float]] = [[] for _ in sessions]
    for turn in range(warmup + repeats):
        for session, spent in zip(sessions, times_s, strict=True):
            start = time.perf_counter()
            session.run(feeds)
            if turn >= warmup:
                spent.append(time.perf_counter() - start)
    return times_s


def _result(
    session: Session,
    expected: Mapping[str, Array],
    output: Mapping[str, Array],
    times_s: Sequence[float],
    feeds: Mapping[str, Array],
) -> ProviderResult:
    p50, p95, p99 = (float(np.percentile(times_s, q)) for q in (50, 95, 99))
    first = next(iter(feeds.values()), None)
    items = first.shape[0] if first is not None and first.ndim else 1
    placement = session.placement
    return ProviderResult(
        placement.provider,
        placement.device,
        len(times_s),
        p50 * 1e3,
        p95 * 1e3,
        p99 * 1e3,
        items / p50,
        max((difference(output[k], expected[k]) for k in expected), default=0.0),
        min((_argmax_agreement(output[k], expected[k]) for k in expected), default=1.0),
        session.device_bytes,
        placement.streaming.streamed_bytes if placement.streaming else 0,
    )


def _argmax_agreement(a: Array, b: Array) -> float:
    if a.shape != b.shape or not a.size or not a.ndim:
        return float(a.shape == b.shape)
    return float(np.mean(a.argmax(-1) == b.argmax(-1)))
