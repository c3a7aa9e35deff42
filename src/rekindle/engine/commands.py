"""Launches ready to be enqueued, and how far ahead of the device they are."""

from __future__ import annotations

from dataclasses import dataclass

import pyopencl as cl

from rekindle.engine.kernels import Launch

WINDOW = 4e9
"""Work, in FLOPs, given to the device before the host waits for the work before it. Nothing idles
(two windows are under way), and Ctrl-C takes effect within two of them: they cannot be called
back."""
_FLOPS_PER_BYTE = 16
"""What a byte moved counts as: arithmetic against bandwidth of the cards this is for."""


@dataclass(frozen=True)
class Command:
    """A launch with its arguments set, and what it has to do with the streamed weights."""

    kernel: cl.Kernel
    global_size: tuple[int, ...]
    local_size: tuple[int, ...] | None
    work: float
    needs: int | None
    """The stage that must have arrived, if this launch is its first reader."""
    frees: int | None
    """The stage whose last reader this launch is."""


def work_of(launch: Launch) -> float:
    return launch.flops + _FLOPS_PER_BYTE * launch.bytes_moved


class Pace:
    """Keeps the host at most two windows of work ahead of the device."""

    def __init__(self, queue: cl.CommandQueue) -> None:
        self._queue = queue
        self._behind: cl.Event | None = None
        self._work = 0.0

    def add(self, work: float, event: cl.Event) -> None:
        self._work += work
        if self._work < WINDOW:
            return
        self._queue.flush()
        if self._behind:
            self._behind.wait()
        self._behind, self._work = event, 0.0
