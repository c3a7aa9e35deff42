"""Spans: the caller's trace is continued, over both protocols, down to the run."""

from __future__ import annotations

import http.server
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import LIMIT_S, Running, affine, put, until

pytest.importorskip("opentelemetry.sdk", reason="the otel extra is not installed")
pytest.importorskip("tritonclient", reason="tritonclient is not installed")
import tritonclient.grpc as over_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rekindle._errors import UsageError
from rekindle.serve.observe.tracing import Tracing, exporting

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OVER_HTTP = "POST /v2/models/{name}/infer"
OVER_GRPC = "inference.GRPCInferenceService/ModelInfer"
HEADER = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
BODY = b'{"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1,2,3,4,5,6]}]}'


@pytest.fixture
def server(tmp_path: Path, start: Callable[..., Running]) -> Running:
    put(tmp_path / "models", "affine", "1", affine())
    return start(tmp_path / "models")


@pytest.fixture
def spans(server: Running) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    server.plane.listeners.add(Tracing(provider))
    return exporter


def post(server: Running, path: str, headers: dict[str, str]) -> None:
    request = urllib.request.Request(f"http://{server.http}{path}", BODY, headers)
    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
        answer.read()


def by_name(exporter: InMemorySpanExporter, call: str) -> dict[str, Any]:
    """The spans, once the call's own has ended: the caller may have read its answer before."""
    until(lambda: call in {span.name for span in exporter.get_finished_spans()})
    found = {span.name: span for span in exporter.get_finished_spans()}
    assert len(found) == len(exporter.get_finished_spans())
    return found


def check_tree(found: dict[str, Any], name: str) -> None:
    """One trace, the caller's; each span inside the one it belongs to, in time too."""
    call, infer = found[name], found["infer"]
    assert {f"{span.context.trace_id:032x}" for span in found.values()} == {TRACE}
    assert f"{call.parent.span_id:016x}" == PARENT
    assert infer.parent.span_id == call.context.span_id
    queue, compute = found["queue"], found["compute"]
    for part in (queue, compute):
        assert part.parent.span_id == infer.context.span_id
    assert call.start_time <= infer.start_time <= infer.end_time <= call.end_time
    assert queue.start_time <= queue.end_time == compute.start_time < compute.end_time
    slack = 5_000_000  # the calendar is read twice: clocks may be set in between
    assert infer.start_time - slack <= queue.start_time
    assert compute.end_time <= infer.end_time + slack
    assert infer.attributes["rekindle.model"] == "affine"
    assert infer.attributes["rekindle.outcome"] == "success"
    assert compute.attributes["rekindle.batch.rows"] == 2


def test_http_continues_the_callers_trace(server: Running, spans: InMemorySpanExporter) -> None:
    post(server, "/v2/models/affine/infer?key=hidden", HEADER | {"X-Request-Id": "id-7"})
    found = by_name(spans, OVER_HTTP)
    check_tree(found, OVER_HTTP)
    attributes = dict(found[OVER_HTTP].attributes)
    assert attributes["http.response.status_code"] == 200
    assert attributes["http.route"] == "/v2/models/{name}/infer"
    assert attributes["url.path"] == "/v2/models/affine/infer"
    assert attributes["rekindle.request_id"] == "id-7"
    assert "hidden" not in str(attributes)


def test_grpc_continues_the_callers_trace(server: Running, spans: InMemorySpanExporter) -> None:
    tensor = over_grpc.InferInput("x", [2, 3], "FP32")
    tensor.set_data_from_numpy(np.ones((2, 3), np.float32))
    with over_grpc.InferenceServerClient(server.grpc) as client:
        client.infer("affine", [tensor], headers=HEADER)
    found = by_name(spans, OVER_GRPC)
    check_tree(found, OVER_GRPC)
    attributes = found[OVER_GRPC].attributes
    assert attributes["rpc.method"] == "ModelInfer"
    assert attributes["rpc.response.status_code"] == "OK"


def test_without_a_parent_a_trace_begins_and_errors_show(
    server: Running, spans: InMemorySpanExporter
) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        post(server, "/v2/models/ghost/infer", {"traceparent": "nonsense"})
    found = by_name(spans, OVER_HTTP)
    assert set(found) == {OVER_HTTP, "infer"}
    call = found[OVER_HTTP]
    assert call.parent is None
    assert call.status.is_unset  # the caller's fault, by the conventions
    assert not found["infer"].status.is_ok
    assert found["infer"].attributes["rekindle.outcome"] == "not_found"


def test_an_unsampled_trace_makes_no_spans(server: Running, spans: InMemorySpanExporter) -> None:
    post(server, "/v2/models/affine/infer", {"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert spans.get_finished_spans() == ()


def test_traces_are_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert exporting(None) is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert exporting(None) is None
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    with pytest.raises(UsageError, match="no address"):
        exporting("collector:4318")


def test_spans_reach_a_collector_with_the_last_breath(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    received: list[tuple[str, bytes]] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    collector = http.server.HTTPServer(("127.0.0.1", 0), Collector)
    serving = threading.Thread(target=collector.serve_forever, daemon=True)
    serving.start()
    put(tmp_path / "models", "affine", "1", affine())
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    server = start(tmp_path / "models", otlp_endpoint=endpoint)
    post(server, "/v2/models/affine/infer", HEADER)
    server.stop()
    collector.shutdown()
    serving.join(LIMIT_S)
    collector.server_close()
    assert {path for path, _ in received} == {"/v1/traces"}
    sent = b"".join(body for _, body in received)
    for text in (b"rekindle", b"compute", b"affine", bytes.fromhex(TRACE)):
        assert text in sent
