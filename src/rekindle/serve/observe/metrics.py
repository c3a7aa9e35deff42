"""The server's figures for Prometheus.

Counts and times are kept as they happen, by listening; what is a state (bytes, queues, the cards)
is read at the moment of a scrape. Labels only ever take values from short lists: names of models
in the repository, patterns of routes, words for outcomes.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    Summary,
)
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

import rekindle
from rekindle._errors import RekindleError
from rekindle.device.telemetry import Telemetry
from rekindle.serve.batching.batcher import Batch
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.events import Listener
from rekindle.serve.messages import InferRequest, InferResponse
from rekindle.serve.observe.calls import IN_PROCESS, SUCCESS, Call, current, outcome_of
from rekindle.serve.observe.states import CardCollector, PlaneCollector
from rekindle.serve.observe.triton import TritonCollector

SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
)  # fmt: skip
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MODEL = ("model", "version")
M = TypeVar("M", bound=Counter | Histogram | Summary)


class _Registry(CollectorRegistry):
    """Without the `_created` series, which double the number of lines and nobody reads."""

    def collect(self) -> Iterable[Metric]:
        for family in super().collect():
            family.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield family


class _Children(dict[tuple[str, ...], M]):
    """The series of a metric by its labels: the library's own look-up is slower than counting."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, key: tuple[str, ...]) -> M:
        self[key] = child = cast(M, self._metric.labels(*key))
        return child


class Metrics(Listener):
    """A registry of its own, filled by listening to one data plane."""

    def __init__(
        self,
        plane: DataPlane,
        read_cards: Callable[[], Sequence[Telemetry]],
        *,
        triton: bool = False,
    ) -> None:
        self.registry = _Registry()
        self._read_cards = read_cards
        self._cards = CardCollector(triton=triton)
        self._define_calls()
        self._define_models()
        build = Info("rekindle_build", "What runs.", registry=self.registry)
        build.info({"version": rekindle.__version__, "python": platform.python_version()})
        self.registry.register(PlaneCollector(plane))
        self.registry.register(self._cards)
        if triton:
            self.registry.register(TritonCollector(plane))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """The text and its type: OpenMetrics for those who ask for it."""
        loop = asyncio.get_running_loop()
        # A card that sleeps may take its time to answer.
        self._cards.cards = await loop.run_in_executor(None, self._read_cards)
        encode, kind = choose_encoder(accept)
        return encode(self.registry), kind

    def _define_calls(self) -> None:
        self._calls = self._counter(
            "rekindle_calls",
            "Calls of any route or method, whatever became of them.",
            ("protocol", "call", "status"),
        )
        self._call_seconds = self._histogram(
            "rekindle_call_duration_seconds",
            "From a call's headers to the end of its answer.",
            ("protocol", "call"),
        )
        self._requests = self._counter(
            "rekindle_requests",
            "Requests for inference. Without a model: for one that is not served.",
            (*MODEL, "protocol", "outcome"),
        )
        self._request_seconds = self._histogram(
            "rekindle_request_duration_seconds",
            "Successful requests for inference, from the data plane's entry to its answer.",
            MODEL,
        )

    def _define_models(self) -> None:
        self._queue_seconds = self._histogram(
            "rekindle_queue_duration_seconds", "What a request waited for its run.", MODEL
        )
        self._compute_seconds = self._histogram(
            "rekindle_compute_duration_seconds",
            "One run of a model: inputs put together, computed, outputs taken apart.",
            MODEL,
        )
        self._rows = self._histogram(
            "rekindle_batch_rows", "Rows that shared a run.", MODEL, buckets=ROWS
        )
        self._loads = self._counter(
            "rekindle_model_loads", "Attempts to load a model.", (*MODEL, "outcome")
        )
        self._load_seconds = _Children(
            Summary(
                "rekindle_model_load_duration_seconds",
                "Loads that succeeded, checks and warm-up included.",
                MODEL,
                registry=self.registry,
            )
        )
        self._unloads = self._counter(
            "rekindle_model_unloads",
            "Loaded models given up: evicted for others, unloaded, replaced, or at shutdown.",
            (*MODEL, "reason"),
        )
        self._restarts = self._counter(
            "rekindle_worker_restarts", "Workers that died or hung and were started again.", MODEL
        )

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> _Children[Counter]:
        return _Children(Counter(name, text, labels, registry=self.registry))

    def _histogram(
        self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float] = SECONDS
    ) -> _Children[Histogram]:
        made = Histogram(name, text, labels, buckets=buckets, registry=self.registry)
        return _Children(made)

    # What happens

    def call_done(self, call: Call) -> None:
        self._calls[call.protocol, call.name, call.status].inc()
        self._call_seconds[call.protocol, call.name].observe(call.seconds)

    def request_done(
        self,
        request: InferRequest,
        seconds: float,
        response: InferResponse | None,
        error: BaseException | None,
    ) -> None:
        call = current.get()
        # Only what is served has a name here: callers may ask for anything.
        model, version = (request.model, request.served_by) if request.served_by else ("", "")
        protocol = call.protocol if call else IN_PROCESS
        self._requests[model, version, protocol, outcome_of(error)].inc()
        if response is not None:
            self._request_seconds[model, version].observe(seconds)

    def batch_ran(self, model: str, version: str, batch: Batch) -> None:
        key = (model, version)
        waited = self._queue_seconds[key]
        for seconds in batch.queue_s:
            waited.observe(seconds)
        self._compute_seconds[key].observe(batch.compute_s)
        self._rows[key].observe(batch.rows)

    def model_loaded(self, model: str, version: str, nbytes: int, seconds: float) -> None:
        key = (model, version)
        self._loads[*key, SUCCESS].inc()
        self._load_seconds[key].observe(seconds)
        # A series that begins at one hides its first event from rate(): begin them at zero.
        for protocol in ("http", "grpc"):
            _ = self._requests[*key, protocol, SUCCESS]
        _ = self._loads[*key, "failure"], self._unloads[*key, "evicted"], self._restarts[key]
        histograms: Any = (
            self._request_seconds, self._queue_seconds, self._compute_seconds, self._rows
        )  # fmt: skip
        for histogram in histograms:
            _ = histogram[key]

    def load_failed(self, model: str, version: str, error: RekindleError) -> None:
        self._loads[model, version, "failure"].inc()

    def model_gone(self, model: str, version: str, reason: str) -> None:
        self._unloads[model, version, reason].inc()

    def worker_lost(self, model: str, version: str, reason: str) -> None:
        self._restarts[model, version].inc()
