"""When each command of an executor ran, on one clock for the device and the host."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyopencl as cl

from rekindle.engine.compiler import compiler_for

Kind = Literal["upload", "kernel", "download", "host"]
_TRIES = 5


@dataclass(frozen=True)
class Span:
    """One command or host step: what it was, and its nanoseconds on the host's clock."""

    kind: Kind
    name: str
    start_ns: int
    end_ns: int
    thread: int
    """Which thread gave the command, numbered by first appearance."""

    def overlap_ns(self, other: Span) -> int:
        """Nanoseconds in which both ran; 0 where they did not meet."""
        return max(0, min(self.end_ns, other.end_ns) - max(self.start_ns, other.start_ns))


@dataclass
class Trace:
    """Collects events of any number of executors on one device; thread-safe.

    Device timestamps come from the events' profiling information (CL_PROFILING_COMMAND_START and
    END) and are moved to the clock of `time.perf_counter_ns` by a command whose end is seen on
    both: exact to the shortest of a few waits, some tens of microseconds.
    """

    device: cl.Device
    _commands: list[tuple[Kind, str, cl.Event, int]] = field(default_factory=list)
    _host: list[Span] = field(default_factory=list)
    _numbers: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def command(self, kind: Kind, name: str, event: cl.Event) -> None:
        with self._lock:
            self._commands.append((kind, name, event, self._thread()))

    @contextmanager
    def host(self, name: str) -> Iterator[None]:
        """Times a step on the host."""
        start = time.perf_counter_ns()
        yield
        end = time.perf_counter_ns()
        with self._lock:
            self._host.append(Span("host", name, start, end, self._thread()))

    def _thread(self) -> int:
        return self._numbers.setdefault(threading.get_ident(), len(self._numbers))

    def spans(self) -> list[Span]:
        """Everything recorded so far, by start; waits for commands still running."""
        with self._lock:
            commands, spans = list(self._commands), list(self._host)
        if commands:
            cl.wait_for_events([event for _, _, event, _ in commands])
            offset = _offset_ns(self.device)
            spans += [
                Span(kind, name, e.profile.start + offset, e.profile.end + offset, thread)
                for kind, name, e, thread in commands
            ]
        return sorted(spans, key=lambda span: (span.start_ns, span.end_ns))


def _offset_ns(device: cl.Device) -> int:
    """What to add to a device timestamp to have the host's, from the quickest of a few writes."""
    context = compiler_for(device).context
    queue = cl.CommandQueue(context, device, cl.command_queue_properties.PROFILING_ENABLE)
    word = np.zeros(1, np.uint32)
    buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE, word.nbytes)
    found = []
    for _ in range(_TRIES):
        before = time.perf_counter_ns()
        event = cl.enqueue_copy(queue, buffer, word, is_blocking=True)
        after = time.perf_counter_ns()
        middle = (int(event.profile.queued) + int(event.profile.end)) // 2
        found.append((after - before, (before + after) // 2 - middle))
    buffer.release()
    return min(found)[1]
