"""How fast values move between host and device: latency and bandwidth, measured."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pyopencl as cl

from rekindle.engine.compiler import compiler_for

_LARGE_BYTES = 16 << 20
_REPEATS = 8


def measure_transfers(device: cl.Device) -> dict[str, tuple[float, float]]:
    """Seconds of the smallest copy, and bytes per second of a large one, each way.

    Keys "upload" and "download". Blocking copies of ordinary (pageable) memory, as a session's
    are; the best of a few, since the machine may be busy with other things.
    """
    context = compiler_for(device).context
    queue = cl.CommandQueue(context, device)
    host = np.zeros(_LARGE_BYTES, np.uint8)
    buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE, host.nbytes)
    word = host[:4]
    found = {}
    try:
        for name, copy in (
            ("upload", lambda data: cl.enqueue_copy(queue, buffer, data, is_blocking=True)),
            ("download", lambda data: cl.enqueue_copy(queue, data, buffer, is_blocking=True)),
        ):
            latency_s, large_s = _best(copy, word), _best(copy, host)
            found[name] = latency_s, host.nbytes / max(large_s - latency_s, 1e-9)
    finally:
        buffer.release()
    return found


def _best(copy: Callable[[np.ndarray], object], data: np.ndarray) -> float:
    spent = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        copy(data)
        spent.append(time.perf_counter() - start)
    return min(spent)
