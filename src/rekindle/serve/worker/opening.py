"""Opening a model for service: its signature against its card, a dummy run, a proof of batching.

Whether requests may share a run cannot be read from a model: a symbolic first dimension may be a
batch or a sequence. So it is tried: two samples apart and together must give the same rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rekindle._errors import CardError, ModelError, RekindleError
from rekindle._types import DType, TensorSpec
from rekindle.graph.ir import Array, numpy_dtype
from rekindle.runtime import Session, open_session, providers
from rekindle.runtime.framework import detect
from rekindle.serve import heap
from rekindle.serve.worker.job import Job, Opened

_GUESSES = (16, 32, 64, 224, 1, 128, 512)
"""Sizes tried for dynamic dimensions other than the batch."""
_TOLERANCE = 1e-3
"""max|a - b| / max|b| for rows computed apart and together: engines change algorithms with size."""
_WARM_UP_S = 10.0
"""Larger batches are not warmed up once warming up has taken so long."""
_COSTLY_SHAPES = frozenset({"opencl"})
"""Providers that plan anew for each shape: they keep to a few batch sizes, filled up."""


@dataclass
class OpenModel:
    """A session and what was found out about it."""

    session: Session
    opened: Opened


def open_model(job: Job) -> OpenModel:
    """Open and examine; raises what `open_session` raises, and CardError or ModelError."""
    start = time.perf_counter()
    if job.provider != "auto":
        providers.REGISTRY.get(job.provider)  # its libraries are not this model's memory
    before = resident_bytes()
    session = open_session(
        job.path,
        provider=job.provider,
        device=job.device,
        precision=job.precision,
        threads=job.threads,
    )
    try:
        _check_signature("input", job.inputs, session.inputs)
        _check_signature("output", job.outputs, session.outputs)
        guess = _first_run(session)
        batchable, reason = _prove_batching(session, job.max_batch, guess)
        latencies = _warm_up(session, job.max_batch if batchable else 1, guess) if guess else ()
    except RekindleError:
        session.close()
        raise
    provider = session.placement.provider
    heap.give_back()  # what only loading needed is not the model's
    grown = max(resident_bytes() - before, Path(job.path).stat().st_size)
    costly = batchable and provider in _COSTLY_SHAPES
    opened = Opened(
        inputs=session.inputs,
        outputs=session.outputs,
        framework=detect(Path(job.path)),
        provider=provider,
        placement=session.placement.summary,
        nbytes=session.device_bytes or grown,
        batchable=batchable,
        batch_reason=reason,
        sizes=tuple(rows for rows, _ in latencies) if costly else (),
        latencies=latencies,
        load_s=time.perf_counter() - start,
    )
    return OpenModel(session, opened)


def resident_bytes() -> int:
    """Memory this process holds in RAM; 0 where the system does not tell."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except (ImportError, OSError):
        return 0


def sample(specs: tuple[TensorSpec, ...], rows: int, guess: int, seed: int) -> dict[str, Array]:
    """Random inputs: `rows` for a dynamic first dimension, `guess` for the other dynamic ones."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for spec in specs:
        dims = [rows if k == 0 else guess for k in range(len(spec.shape))]
        shape = tuple(
            d if isinstance(d, int) else own for d, own in zip(spec.shape, dims, strict=True)
        )
        feeds[spec.name] = _random(rng, spec.dtype, shape)
    return feeds


def _random(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Array:
    if dtype is DType.STRING:
        words = np.empty(shape, object)
        words[...] = "a"
        return words
    if dtype.is_float:
        return rng.standard_normal(shape).astype(numpy_dtype(dtype))
    # Integers may be indices: 0 and 1 are valid in almost any table.
    return rng.integers(0, 2, shape).astype(numpy_dtype(dtype))


def _check_signature(
    kind: str, card: tuple[TensorSpec, ...], model: tuple[TensorSpec, ...]
) -> None:
    """CardError unless every tensor the card names is the model's, with its dtype and shape."""
    by_name = {spec.name: spec for spec in model}
    for spec in card:
        own = by_name.get(spec.name)
        fits = (
            own is not None
            and own.dtype is spec.dtype
            and len(own.shape) == len(spec.shape)
            and all(
                a == b
                for a, b in zip(own.shape, spec.shape, strict=True)
                if isinstance(a, int) and isinstance(b, int)
            )
        )
        if not fits:
            has = ", ".join(str(s) for s in model)
            raise CardError(
                f"the card says {kind} {spec}, the model has {has}",
                hint="correct the card, or get the model that belongs to it",
            )


def _first_run(session: Session) -> int | None:
    """A dummy run. Returns the size that dynamic dimensions took; None: none of the guesses ran."""
    dynamic = any(isinstance(d, str) for s in session.inputs for d in s.shape[1:])
    failures = []
    for guess in _GUESSES if dynamic else _GUESSES[:1]:
        try:
            session.run(sample(session.inputs, 1, guess, seed=0))
        except RekindleError as error:
            failures.append(error)
        else:
            return guess
    if dynamic:
        return None
    raise ModelError(f"the model opened, but a dummy run failed: {failures[0]}")


def _prove_batching(session: Session, most: int, guess: int | None) -> tuple[bool, str]:
    """Whether rows of different requests may share a run, and why (not)."""
    if most == 1:
        return False, "switched off: the largest batch is 1"
    specs = (*session.inputs, *session.outputs)
    if not session.inputs or not all(s.shape and isinstance(s.shape[0], str) for s in specs):
        return False, "not every input and output has a dynamic first dimension"
    if guess is None:
        return False, "no sizes were found with which the model runs"
    try:
        apart = [session.run(sample(session.inputs, 1, guess, seed)) for seed in (1, 2)]
        both = [sample(session.inputs, 1, guess, seed) for seed in (1, 2)]
        together = session.run({n: np.concatenate([f[n] for f in both]) for n in both[0]})
    except RekindleError as error:
        return False, f"a run of two rows failed: {error}"
    for name, rows in together.items():
        if any(len(one[name]) != 1 for one in apart) or len(rows) != 2:
            return False, f"output {name} does not have a row for each row of the input"
        if not _agree(np.concatenate([one[name] for one in apart]), rows):
            return False, f"output {name} of a row depends on the other rows"
    return True, "rows computed together equal rows computed apart"


def _agree(apart: Array, together: Array) -> bool:
    if apart.shape != together.shape:
        return False
    if apart.dtype.kind not in "fV":
        return bool((apart == together).all())
    a, b = apart.astype(np.float64), together.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(finite, np.isfinite(a)):
        return False
    scale = np.abs(b[finite]).max(initial=0.0)
    return bool(np.abs(a[finite] - b[finite]).max(initial=0.0) <= _TOLERANCE * scale)


def _warm_up(session: Session, most: int, guess: int) -> tuple[tuple[int, float], ...]:
    """Seconds of a warm run for 1, 2, 4 … rows; stops early where that takes long."""
    began = time.perf_counter()
    found = []
    for rows in _powers(most):
        feeds: Mapping[str, Array] = sample(session.inputs, rows, guess, seed=rows)
        try:
            session.run(feeds)
            start = time.perf_counter()
            session.run(feeds)
        except RekindleError:
            if rows == 1:
                raise
            break
        found.append((rows, time.perf_counter() - start))
        if time.perf_counter() - began > _WARM_UP_S:
            break
    return tuple(found)


def _powers(most: int) -> Iterator[int]:
    rows = 1
    while rows < most:
        yield rows
        rows *= 2
    yield most
