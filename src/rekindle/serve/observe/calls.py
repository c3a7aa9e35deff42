"""One call of the server, over HTTP or gRPC, whatever it asks for.

The protocols make a `Call` when headers are there and complete it when the answer is. Meanwhile it
is the current one of its task, so that what happens inside finds it without passing it on.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from rekindle._errors import RekindleError
from rekindle.serve.messages import InferRequest, InferResponse

OTHER = "other"
"""The name of every call without a route: paths that callers invent must not make new names."""
REQUEST_ID = "x-request-id"
_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_OUTCOMES = {
    400: "invalid",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    413: "too_large",
    422: "unusable",
    429: "rate_limited",
    501: "not_built",
    503: "busy",
    504: "deadline",
    507: "over_budget",
}
SUCCESS = "success"
IN_PROCESS = "inprocess"
"""The protocol of a request that came by no call: from Python, in the same process."""


@dataclass(slots=True, eq=False)
class Call:
    """What is known of a call; the last four groups only once it is done."""

    protocol: str
    """`http` or `grpc`."""
    request_id: str
    method: str = "POST"
    target: str = ""
    """What was asked for, as it was sent, percent-encoded and without the query."""
    client: str = ""
    trace: dict[str, str] = field(default_factory=dict)
    """W3C's `traceparent` and `tracestate`, where the caller sent them."""
    started: float = field(default_factory=time.perf_counter)

    name: str = OTHER
    """The route's pattern or the method's name: one of few, whatever callers send."""
    status: str = ""
    """An HTTP status or the name of a gRPC code."""
    seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0

    inferences: int = 0
    """Requests for inference in this call; a stream has many. Of the last one: the rest."""
    model: str = ""
    version: str = ""
    outcome: str = ""
    queue_s: float = 0.0
    run_s: float = 0.0
    batch_rows: int = 0

    trace_id: str = ""
    span: Any = None

    def inferred(
        self, request: InferRequest, response: InferResponse | None, error: BaseException | None
    ) -> None:
        """A request for inference that was part of this call is done."""
        self.inferences += 1
        self.model, self.version = request.model, request.served_by
        self.outcome = outcome_of(error)
        if response is not None:
            self.queue_s, self.run_s = response.queue_s, response.run_s
            self.batch_rows = response.batch_rows

    def end(self) -> None:
        self.seconds = time.perf_counter() - self.started


current: ContextVar[Call | None] = ContextVar("rekindle_call", default=None)


def request_id(given: str | None) -> str:
    """The caller's own, where it is short and plain enough to be logged; else a new one."""
    if given and _SANE_ID.fullmatch(given):
        return given
    return f"{random.getrandbits(128):032x}"


def outcome_of(error: BaseException | None) -> str:
    """How a request for inference ended, in one word of a fixed list."""
    if error is None:
        return SUCCESS
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, RekindleError):
        return _OUTCOMES.get(error.http_status, "error")
    return "error"
