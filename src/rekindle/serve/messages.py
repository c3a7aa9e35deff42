"""What goes into the data plane, and what comes out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rekindle._errors import InputError
from rekindle.graph.ir import Array

DEFAULT_PRIORITY = 5
LOWEST_PRIORITY = 9


@dataclass(slots=True)
class InferRequest:
    """One call of a model."""

    model: str
    inputs: Mapping[str, Array]
    version: str = ""
    """Empty: the newest one that is served."""
    outputs: tuple[str, ...] = ()
    """The outputs wanted, in this order; empty: all of them."""
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    priority: int = DEFAULT_PRIORITY
    """1 (most urgent) to 9."""
    deadline: float | None = None
    """`time.monotonic()` after which nobody wants the answer; None: the server's default."""
    precision: str = ""
    """One of those that the server offers; empty: its own."""
    served_by: str = ""
    """The version that answers, once the data plane knows it."""


@dataclass(slots=True)
class InferResponse:
    """The outputs of one request; `model` and `version` are those that ran."""

    model: str
    version: str
    outputs: Mapping[str, Array]
    id: str = ""
    batch_rows: int = 1
    """Rows of the batch in which the request ran, its own among them."""
    queue_s: float = 0.0
    run_s: float = 0.0
    compute_s: float = 0.0
    """The run, with inputs put together before and outputs taken apart after it."""
    started: float = 0.0
    """`time.monotonic()` when the batch began."""


def priority_of(parameters: Mapping[str, Any]) -> int:
    """The `priority` parameter; absent or 0 means the default."""
    value = parameters.get("priority", 0)
    if type(value) is not int or not 0 <= value <= LOWEST_PRIORITY:
        raise InputError(
            f"priority = {value!r} is not known",
            hint=f"1 (most urgent) to {LOWEST_PRIORITY}; 0 or none is {DEFAULT_PRIORITY}",
        )
    return value or DEFAULT_PRIORITY


def deadline_of(parameters: Mapping[str, Any]) -> float | None:
    """The `timeout` parameter, in microseconds as Triton has it, as a monotonic time."""
    value = parameters.get("timeout", 0)
    if type(value) is not int or value < 0:
        raise InputError(
            f"timeout = {value!r} is no time", hint="a whole number of microseconds, 0 for none"
        )
    return time.monotonic() + value / 1e6 if value else None


_UNSUPPORTED = {
    "classification": "the classification extension",
    "sequence_id": "sequences",
    "sequence_start": "sequences",
    "sequence_end": "sequences",
    "shared_memory_region": "shared memory",
}


def refuse_unsupported(parameters: Mapping[str, Any]) -> None:
    """InputError for a parameter that would change the answer and that is not built."""
    for name, meaning in _UNSUPPORTED.items():
        if parameters.get(name):
            raise InputError(
                f"the parameter {name} asks for {meaning}, which this server does not have",
                hint="leave it out",
            )
