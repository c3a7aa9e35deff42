"""The log: one line for each call, ids that are kept, nothing secret, and never in the way."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving import LIMIT_S, Running, affine, put

from rekindle.serve.observe import calls
from rekindle.serve.observe.logs import JsonFormatter, TextFormatter, Writer, access, logging_to

pytest.importorskip("tritonclient", reason="tritonclient is not installed")
import grpc

from rekindle.serve.grpc import schema

SECRET, PAYLOAD = "Bearer-5ecr3t", 987654.125


def post(server: Running, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """Status and request id of one inference."""
    host, port = server.http.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT_S)
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [PAYLOAD, 2, 3]}
    connection.request("POST", path, json.dumps({"inputs": [tensor]}), headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.getheader("x-request-id") or ""


def ready(server: Running, metadata: tuple[tuple[str, str], ...]) -> str:
    """The request id that a gRPC call comes back with."""
    method = next(m for m in schema.methods("inference.GRPCInferenceService")
                  if m[0] == "ServerReady")  # fmt: skip
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(
            f"/inference.GRPCInferenceService/{method[0]}",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=method[2].FromString,
        )
        _, done = call.with_call(method[1](), metadata=metadata, timeout=LIMIT_S)
        return dict(done.trailing_metadata())["x-request-id"]


@pytest.fixture
def server(tmp_path: Path, start: Callable[..., Running]) -> Running:
    put(tmp_path / "models", "affine", "1", affine())
    return start(tmp_path / "models")


def test_every_call_has_one_line_and_nothing_secret(server: Running) -> None:
    stream = io.StringIO()
    with logging_to(stream, "json"):
        infer = "/v2/models/affine/infer"
        sent = {"X-Request-Id": "mine-1", "Authorization": SECRET, "Cookie": SECRET}
        assert post(server, f"{infer}?token={SECRET}", sent) == (200, "mine-1")
        status, made = post(server, "/v2/models/ghost/infer", {"X-Request-Id": "a b\tc"})
        assert (status, len(made)) == (404, 32)
        over_grpc = ready(server, (("x-request-id", "mine-2"), ("authorization", SECRET)))
        assert over_grpc == "mine-2"
        server.do(asyncio.sleep(0))  # a call is told once its answer is on the way
    text = stream.getvalue()
    assert SECRET not in text
    assert str(PAYLOAD) not in text
    lines = [json.loads(line) for line in text.splitlines()]
    lines = [line for line in lines if line["logger"] == "rekindle.access"]
    assert [line["request_id"] for line in lines] == ["mine-1", made, "mine-2"]
    good, ghost, health = lines
    assert good["message"] == f"POST {infer} 200"
    expected = {
        "level": "info", "protocol": "http", "call": "/v2/models/{name}/infer", "status": "200",
        "client": "127.0.0.1", "model": "affine", "version": "1", "outcome": "success",
        "batch_rows": 1,
    }  # fmt: skip
    assert {key: good[key] for key in expected} == expected
    assert good["ms"] >= good["queue_ms"] + good["run_ms"] > 0
    assert good["bytes_in"] > 60
    assert good["bytes_out"] > 60
    assert (ghost["outcome"], ghost["version"]) == ("not_found", "")
    assert (health["protocol"], health["status"], "model" in health) == ("grpc", "OK", False)
    assert health["call"] == "/inference.GRPCInferenceService/ServerReady"


def test_without_access_lines_the_events_remain(server: Running) -> None:
    stream = io.StringIO()
    with logging_to(stream, "json", access_lines=False):
        assert post(server, "/v2/models/affine/infer", {})[0] == 200
        server.do(server.plane.fleet.unload("affine"))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(x["message"], x["model"], x["reason"]) for x in lines] == [
        ("model given up", "affine", "unloaded")
    ]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("7f3a-11", True), ("a" * 128, True), ("user@host/req:1", True),
        ("a" * 129, False), ("", False), (None, False), ("-starts", False),
        ("two words", False), ("line\nbreak", False), ("straße", False), ("a\n", False),
    ],
)  # fmt: skip
def test_ids_are_kept_where_they_are_sane(given: str | None, kept: bool) -> None:
    found = calls.request_id(given)
    assert (found == given) is kept
    assert kept or len(found) == 32


def record(message: str, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("rekindle", logging.INFO, "", 0, "%s", (message,), None)
    made.fields = fields
    return made


def test_a_line_stays_one_line() -> None:
    evil = record("GET /a\nfake 200", model="x\r\ny\u2028z\x1b[31m")
    text = TextFormatter().format(evil)
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
    line = JsonFormatter().format(evil)
    assert len(line.split("\n")) == 1
    assert json.loads(line)["model"] == "x\r\ny\u2028z\x1b[31m"
    assert json.loads(line)["time"].endswith("Z")


def test_a_stream_that_does_not_take_lines_stops_nobody() -> None:
    class Stuck(io.StringIO):
        gate = threading.Event()

        def write(self, text: str) -> int:
            self.gate.wait(LIMIT_S)
            return super().write(text)

    stream = Stuck()
    writer = Writer(stream, TextFormatter(), kept=5)
    for k in range(50):
        writer.emit(record(f"line {k}"))
    stream.gate.set()
    writer.close()
    text = stream.getvalue()
    written = text.count(" line ")
    dropped = [int(n) for n in re.findall(r"(\d+) log lines were dropped", text)]
    assert 5 <= written < 50
    assert written + sum(dropped) == 50


def test_a_closed_stream_ends_nothing() -> None:
    stream = io.StringIO()
    stream.close()
    writer = Writer(stream, TextFormatter())
    writer.emit(record("into the void"))
    writer.close()
    assert not writer._thread.is_alive()


def test_logging_is_as_it_was_afterwards() -> None:
    logger = logging.getLogger("rekindle")
    before = (logger.handlers, logger.level, logger.propagate, access.level)
    with logging_to(io.StringIO(), "text"):
        assert access.isEnabledFor(logging.INFO)
    assert (logger.handlers, logger.level, logger.propagate, access.level) == before
