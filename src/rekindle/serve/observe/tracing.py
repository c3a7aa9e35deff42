"""OpenTelemetry spans: a call, the requests for inference in it, their waiting and their run.

The caller's trace is continued (W3C Trace Context, https://www.w3.org/TR/trace-context/). What the
inside looked like is known once the answer is there; its spans are made then, with the times that
were measured. Attributes follow OpenTelemetry's conventions for HTTP and RPC; our own begin with
`rekindle.`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import rekindle
from rekindle import _config
from rekindle._errors import MissingExtraError, UsageError
from rekindle.serve.events import Listener
from rekindle.serve.messages import InferRequest, InferResponse
from rekindle.serve.observe.calls import Call, current, outcome_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_FLUSH_S = 3.0
_GRPC_FAULTS = (
    "UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
)  # fmt: skip
"""Codes that are the server's fault, by the conventions; the others are the caller's."""


class Tracing(Listener):
    """Makes spans with a provider that the caller has set up."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._provider = provider
        self._tracer = provider.get_tracer("rekindle.serve", rekindle.__version__)
        self._propagator = TraceContextTextMapPropagator()

    def call_began(self, call: Call) -> None:
        parent = self._propagator.extract(call.trace)
        span = self._tracer.start_span(call.method, parent, self._trace.SpanKind.SERVER)
        call.span = span
        call.trace_id = f"{span.get_span_context().trace_id:032x}"

    def call_done(self, call: Call) -> None:
        span = call.span
        if span.is_recording():
            span.set_attribute("rekindle.request_id", call.request_id)
            span.set_attribute("client.address", call.client)
            failed = self._http(call) if call.protocol == "http" else self._grpc(call)
            if failed:
                span.set_status(self._trace.StatusCode.ERROR, call.status)
        span.end()

    def request_done(
        self,
        request: InferRequest,
        seconds: float,
        response: InferResponse | None,
        error: BaseException | None,
    ) -> None:
        call = current.get()
        if call is None or call.span is None or not call.span.is_recording():
            return
        parent = self._trace.set_span_in_context(call.span)
        now = time.time_ns()
        span = self._tracer.start_span("infer", parent, start_time=now - int(seconds * 1e9))
        span.set_attribute("rekindle.model", request.model[:200])
        span.set_attribute("rekindle.version", request.served_by)
        span.set_attribute("rekindle.outcome", outcome_of(error))
        if response is not None:
            self._inside(span, response)
        else:
            span.set_status(self._trace.StatusCode.ERROR, type(error).__name__)
        span.end(now)

    def close(self) -> None:
        """Send what is left, as far as somebody takes it."""
        work = threading.Thread(target=self._provider.shutdown, daemon=True)
        work.start()
        work.join(_FLUSH_S)

    def _inside(self, parent: object, response: InferResponse) -> None:
        """Waiting and run; a run serves all requests of its batch, each has a span of it."""
        context = self._trace.set_span_in_context(parent)  # type: ignore[arg-type]
        # Runs are timed by the monotonic clock, spans by the calendar.
        began = time.time_ns() - time.monotonic_ns() + int(response.started * 1e9)
        start = began - int(response.queue_s * 1e9)
        waited = self._tracer.start_span("queue", context, start_time=start)
        waited.end(began)
        run = self._tracer.start_span("compute", context, start_time=began)
        run.set_attribute("rekindle.batch.rows", response.batch_rows)
        run.set_attribute("rekindle.run_ms", response.run_s * 1e3)
        run.end(began + int(response.compute_s * 1e9))

    def _http(self, call: Call) -> bool:
        span, known = call.span, call.name.startswith("/")
        span.update_name(f"{call.method} {call.name}" if known else call.method)
        span.set_attribute("http.request.method", call.method)
        span.set_attribute("url.path", call.target[:200])
        span.set_attribute("http.response.status_code", int(call.status))
        if known:
            span.set_attribute("http.route", call.name)
        return call.status.startswith("5")

    def _grpc(self, call: Call) -> bool:
        span = call.span
        service, _, method = call.name.strip("/").rpartition("/")
        span.update_name(call.name.strip("/"))
        span.set_attribute("rpc.system", "grpc")
        span.set_attribute("rpc.service", service)
        span.set_attribute("rpc.method", method)
        span.set_attribute("rpc.response.status_code", call.status)
        return call.status in _GRPC_FAULTS


def exporting(endpoint: str | None) -> Tracing | None:
    """Spans to an OTLP collector over HTTP, as in http://collector:4318; None: not asked for.

    Without `endpoint` OpenTelemetry's own variables decide. MissingExtraError without the
    library, UsageError for what is no address.
    """
    wanted = endpoint or any(
        _config.read(name)
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )
    if not wanted or (_config.read("OTEL_SDK_DISABLED") or "").lower() == "true":
        return None
    if endpoint and (urlsplit(endpoint).scheme not in ("http", "https") or "//" not in endpoint):
        raise UsageError(
            f"--otlp-endpoint {endpoint!r} is no address", hint="as in http://127.0.0.1:4318"
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtraError(
            f"traces need {error.name}", hint="pip install 'rekindle[otel]'"
        ) from None
    named = {} if _config.read("OTEL_SERVICE_NAME") else {"service.name": "rekindle"}
    provider = TracerProvider(resource=Resource.create(named))
    url = f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url)))
    return Tracing(provider)
