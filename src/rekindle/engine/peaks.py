"""What a device reaches at best, measured: the roof that kernels are held against.

Three small kernels: independent multiply-adds in registers, a copy that is larger than any cache,
and one that does nothing. The figures are kept in the cache folder under the device, the driver
and the source of the kernels.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyopencl as cl

from rekindle import _config
from rekindle._errors import KernelError
from rekindle._files import write_whole
from rekindle._log import debug
from rekindle.device import Device
from rekindle.engine.compiler import compiler_for
from rekindle.engine.kernels._tile import vector_width
from rekindle.engine.program import OPTIONS

_CHAINS = {"cpu": 10}
"""Sums per work-item: two multiply-adds a cycle, each four cycles long, want eight and more.
A CPU has sixteen registers for them, or thirty-two."""
_TRIPS = {"cpu": 2**18}
"""Times through the loop; elsewhere 4096. Milliseconds on a CPU: its second worker may take a
tenth of one to wake up, and what is done by then is done by one."""
_COPY_BYTES = 96 << 20
_EMPTY = 64
_TRIES = 7

_SOURCE = """
typedef float{width} V;
__kernel void multiply_add(const float a, const float b, const int trips, __global V *y) {{
  V m = (V)(a), s = (V)(b);
  {declare}
  for (int i = 0; i < trips; i++) {{
    {step}
  }}
  y[get_global_id(0)] = {total};
}}
__kernel void copy(__global const V *restrict x, const int count, __global V *restrict y) {{
  const int from = get_global_id(0) * {share}, step = {step_size};
  for (int i = from; i < {end}; i += step) y[i] = x[i];
}}
__kernel void nothing(__global float *y) {{
  if (get_global_id(0) > 0x7ffffff0u) y[0] = 0;
}}
"""


@dataclass(frozen=True)
class Peaks:
    """Measured on one device; bandwidth counts bytes read and bytes written."""

    flops_s: float
    bandwidth_bytes_s: float
    launch_s: float
    """From one dependent kernel to the next."""

    def seconds(self, flops: float, moved_bytes: float) -> float:
        """The least time by the roofline: the greater of arithmetic and memory traffic."""
        return max(flops / self.flops_s, moved_bytes / self.bandwidth_bytes_s)


def peaks(device: Device, *, fresh: bool = False) -> Peaks:
    """The device's peaks: from the cache, or measured (about a second)."""
    source = _source(device)
    path = _path(device, source)
    if not fresh:
        try:
            return Peaks(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            pass
    found = _measure(device, source)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(found)).encode())
    except OSError as error:
        debug(1, "peaks are not kept in %s: %s", path, error)
    return found


def _path(device: Device, source: str) -> Path:
    identity = (device.platform_version, device.name, device.driver, *OPTIONS, source, str(_TRIPS))
    key = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:24]
    return _config.cache_dir() / "peaks" / f"{key}.json"


def _source(device: Device) -> str:
    """Vectors and loops of the device's family: lanes of a GPU copy side by side."""
    target = device.target()
    on_cpu = target.family == "cpu"
    chains = _CHAINS.get(target.family, 8)
    names = [f"a{k}" for k in range(chains)]
    return _SOURCE.format(
        width=vector_width(target) if on_cpu else 4,
        declare=" ".join(f"V {name} = s + {k}.0f;" for k, name in enumerate(names)),
        step=" ".join(f"{name} = {name} * m + s;" for name in names),
        total=" + ".join(names),
        share="count" if on_cpu else "1",
        step_size="1" if on_cpu else "get_global_size(0)",
        end="from + count" if on_cpu else "count * (int)get_global_size(0)",
    )


def _measure(device: Device, source: str) -> Peaks:
    handle, target = device.opencl(), device.target()
    context = compiler_for(handle).context
    try:
        program = cl.Program(context, source).build(list(OPTIONS), [handle], cache_dir=False)
    except cl.Error as error:
        raise KernelError(
            f"{device} does not compile the kernels that measure its peaks: {error}",
            hint="run `rekindle doctor`",
        ) from error
    on_cpu = target.family == "cpu"
    lanes = vector_width(target) if on_cpu else 4
    workers = target.compute_units * (4 if on_cpu else 1024)
    local = 1 if on_cpu else 64
    chains = _CHAINS.get(target.family, 8)
    vectors = _COPY_BYTES // (4 * lanes) // workers * workers
    properties = cl.command_queue_properties.PROFILING_ENABLE
    with cl.CommandQueue(context, handle, properties) as queue:
        x = cl.Buffer(context, cl.mem_flags.READ_WRITE, vectors * 4 * lanes)
        y = cl.Buffer(context, cl.mem_flags.READ_WRITE, vectors * 4 * lanes)
        cl.enqueue_fill_buffer(queue, x, np.zeros(1, np.float32), 0, vectors * 4 * lanes)
        trips = _TRIPS.get(target.family, 4096)
        multiply = cl.Kernel(program, "multiply_add")
        multiply.set_args(np.float32(0.999), np.float32(0.001), np.int32(trips), y)
        copy = cl.Kernel(program, "copy")
        copy.set_args(x, np.int32(vectors // workers), y)
        flops = 2.0 * trips * chains * lanes * workers
        found = Peaks(
            flops / _least_s(queue, multiply, workers, local),
            2.0 * vectors * 4 * lanes / _least_s(queue, copy, workers, local),
            _launch_s(queue, cl.Kernel(program, "nothing"), y, local),
        )
        x.release()
        y.release()
    return found


def _least_s(queue: cl.CommandQueue, kernel: cl.Kernel, size: int, local: int) -> float:
    spent = []
    for _ in range(_TRIES):
        event = cl.enqueue_nd_range_kernel(queue, kernel, (size,), (local,))
        event.wait()
        spent.append(event.profile.end - event.profile.start)
    return float(max(min(spent), 1)) * 1e-9


def _launch_s(queue: cl.CommandQueue, kernel: cl.Kernel, y: cl.Buffer, local: int) -> float:
    kernel.set_args(y)
    spent = []
    for _ in range(_TRIES):
        queue.finish()
        start = time.perf_counter()
        for _ in range(_EMPTY):
            cl.enqueue_nd_range_kernel(queue, kernel, (64 * local,), (local,))
        queue.finish()
        spent.append((time.perf_counter() - start) / _EMPTY)
    return statistics.median(spent)
