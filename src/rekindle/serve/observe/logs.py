"""What the server logs, and how: a line for each call and each change, as JSON or as text.

Never in a line: headers, query strings, tensors, keys. Formatting and writing happen in a thread,
many lines at a time: a terminal that is slow, or a pipe that nobody reads, must not stop the
server. When it falls too far behind, lines are dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import orjson

from rekindle._errors import RekindleError
from rekindle._log import logger
from rekindle.serve.events import Listener
from rekindle.serve.observe.calls import Call

LogFormat = Literal["json", "text"]
access = logging.getLogger("rekindle.access")
_FOREIGN = ("uvicorn", "asyncio", "grpc")
"""Libraries whose warnings belong into the same stream, in the same form."""
_BUGS = ("500", "INTERNAL", "UNKNOWN")
_GATHER_S = 0.02
_KEPT = 20_000
_CLOSE_S = 2.0
_TARGET = 200
"""Characters of a path that are shown."""


class Log(Listener):
    """One access line for each call, and one line for each change of a model."""

    def call_done(self, call: Call) -> None:
        level = logging.ERROR if call.status in _BUGS else logging.INFO
        if access.isEnabledFor(level):
            target = call.target[:_TARGET]
            message = (f"{call.method} {target} {call.status}",)
            # Made here: the logger would look for the line of source first, which takes longer.
            record = logging.LogRecord(access.name, level, "", 0, "%s", message, None)
            record.fields = _of(call)
            access.handle(record)

    def model_loaded(self, model: str, version: str, nbytes: int, seconds: float) -> None:
        _tell(logging.INFO, "model loaded", model, version, bytes=nbytes, ms=_ms(seconds))

    def model_gone(self, model: str, version: str, reason: str) -> None:
        _tell(logging.INFO, "model given up", model, version, reason=reason)

    def load_failed(self, model: str, version: str, error: RekindleError) -> None:
        _tell(logging.ERROR, "model not loaded", model, version, error=str(error))

    def worker_lost(self, model: str, version: str, reason: str) -> None:
        _tell(logging.ERROR, "worker lost", model, version, reason=reason)


def event(message: str, **fields: Any) -> None:
    """A line of the server itself: it listens, it drains."""
    logger.info("%s", message, extra={"fields": fields})


def _tell(level: int, message: str, model: str, version: str, **fields: Any) -> None:
    known = {"model": model, "version": version} | fields
    logger.log(level, "%s", message, extra={"fields": known})


def _of(call: Call) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "request_id": call.request_id,
        "protocol": call.protocol,
        "call": call.name,
        "status": call.status,
        "ms": _ms(call.seconds),
        "client": call.client,
    }
    if call.protocol == "http":
        fields |= {"bytes_in": call.bytes_in, "bytes_out": call.bytes_out}
    if call.inferences:
        fields |= {
            "model": call.model[:_TARGET],
            "version": call.version[:_TARGET],
            "outcome": call.outcome,
            "queue_ms": _ms(call.queue_s),
            "run_ms": _ms(call.run_s),
            "batch_rows": call.batch_rows,
        }
    if call.inferences > 1:
        fields["inferences"] = call.inferences
    if call.trace_id:
        fields["trace_id"] = call.trace_id
    return fields


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(record, "fields", {})
    return found


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        table: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        table |= _fields(record)
        if record.exc_info:
            table["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(table, default=str).decode("utf-8", "replace")


class TextFormatter(logging.Formatter):
    """The same for people: `key=value` after the message."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = [f"{key}={_plain(value)}" for key, value in _fields(record).items()]
        start = f"{_time(record)} {record.levelname.lower():7} {_plain(record.getMessage())}"
        line = "  ".join([start, " ".join(pairs)]) if pairs else start
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _plain(value: Any) -> str:
    """On one line, whatever is in it."""
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


class Writer(logging.Handler):
    """Hands records to a thread that formats and writes them."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter, kept: int = _KEPT) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._stream = stream
        self._kept = kept
        self._records: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._work, name="rekindle-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._records.qsize() < self._kept:
            self._records.put(record)
        else:
            self._dropped += 1

    def close(self) -> None:
        """Write what is left, as far as the stream takes it."""
        self._records.put(None)
        self._thread.join(_CLOSE_S)
        super().close()

    def _work(self) -> None:
        last = False
        while not last:
            records = [self._records.get()]
            if records[0] is not None:
                time.sleep(_GATHER_S)  # the lines of a busy moment are written together
            while not self._records.empty():
                records.append(self._records.get())
            last = None in records
            self._write([record for record in records if record is not None])

    def _write(self, records: list[logging.LogRecord]) -> None:
        if dropped := self._dropped:
            self._dropped = 0
            text = f"{dropped} log lines were dropped: they are not read as fast as they come"
            records.append(logging.LogRecord("rekindle", logging.WARNING, "", 0, text, (), None))
        try:
            self._stream.write("".join(f"{self.format(record)}\n" for record in records))
            self._stream.flush()
        except (OSError, ValueError):
            return  # nobody listens any more: that must not end the server


@contextlib.contextmanager
def logging_to(stream: TextIO, kind: LogFormat, *, access_lines: bool = True) -> Iterator[None]:
    """Send Rekindle's log, and the warnings of the libraries that serve it, to `stream`."""
    writer = Writer(stream, JsonFormatter() if kind == "json" else TextFormatter())
    before = []
    for name in ("rekindle", *_FOREIGN):
        found = logging.getLogger(name)
        before.append((found, found.handlers, found.propagate, found.level))
        found.handlers, found.propagate = [writer], False
        found.setLevel(logging.INFO if name == "rekindle" else logging.WARNING)
    access.setLevel(logging.INFO if access_lines else logging.WARNING)
    try:
        yield
    finally:
        writer.close()
        for found, handlers, propagate, level in before:
            found.handlers, found.propagate = handlers, propagate
            found.setLevel(level)
        access.setLevel(logging.NOTSET)
