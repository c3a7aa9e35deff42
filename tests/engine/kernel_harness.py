"""Runs one kernel spec on one logical call, outside any graph, and returns the result row-major.

    out = run_kernel("conv_direct", call, {"x": x}, constants={"w": w, "b": b}, target=GCN)

`call` is a `LogicalCall` whose values carry layouts; `feeds` are its computed inputs and
`constants` its constants, all row-major NumPy arrays by value name. The harness packs and unpacks
blocked layouts itself (`pack_blocked`, `unpack_blocked`), builds with the engine's compiler, and
checks on every run what no caller should have to remember: the output starts as NaN bytes and
lies between NaN guards that must stay untouched, inputs and constants must come back unchanged,
and channels past C of a blocked output must be exactly zero.

`TARGETS` are the devices to plan for: both CPU widths and a GPU family, all of which PoCL runs.
`run_on_rusticl` runs many cases in a process of its own, since the driver reads its environment
at the first OpenCL call.
"""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyopencl as cl
import pytest

from rekindle._types import DType, Layout, Target
from rekindle.device.discovery import list_devices
from rekindle.engine import kernels
from rekindle.engine.compiler import compiler_for
from rekindle.engine.kernels import Context, Launch, Packed, Variant, Workspace
from rekindle.graph.ir import Value, dtype_of, numpy_dtype
from rekindle.graph.lowering import LogicalCall

Array = np.ndarray[Any, np.dtype[Any]]
GUARD_BYTES = 256


def _target(name: str, family: Any, wavefront: int) -> Target:
    return Target(
        name=name, family=family, compute_units=2, wavefront=wavefront, lds_bytes=32768,
        global_bytes=2**32, max_alloc_bytes=2**31, alignment_bytes=128,
    )  # fmt: skip


CPU8 = _target("CPU with 8 floats a register", "cpu", 8)
CPU16 = _target("CPU with 16 floats a register", "cpu", 16)
GCN = _target("GCN card", "gcn", 64)
TARGETS = (CPU8, CPU16, GCN)


@dataclass(frozen=True)
class Case:
    """One run: what `run_kernel` takes, as data that can travel to another process."""

    kernel: str
    call: LogicalCall
    feeds: Mapping[str, Array]
    constants: Mapping[str, Array] = field(default_factory=dict)
    target: Target = CPU8


def value(name: str, array: Array | Sequence[int], block: int = 0) -> Value:
    """A Value for an array, or for a float32 shape, in row-major or blocked layout."""
    if isinstance(array, np.ndarray):
        return Value(name, dtype_of(array), array.shape, Layout(block))
    return Value(name, DType.FLOAT32, tuple(array), Layout(block))


def pack_blocked(array: Array, block: int) -> Array:
    """(N, C, *S) → (N, ceil(C / block), *S, block), channels past C zero."""
    n, c, *spatial = array.shape
    padded = np.zeros((n, -(-c // block) * block, *spatial), array.dtype)
    padded[:, :c] = array
    return np.ascontiguousarray(np.moveaxis(padded.reshape(n, -1, block, *spatial), 2, -1))


def unpack_blocked(packed: Array, channels: int) -> Array:
    """The inverse of `pack_blocked`; asserts that channels past C are exactly zero."""
    n, blocks, *spatial, block = packed.shape
    full = np.moveaxis(packed, -1, 2).reshape(n, blocks * block, *spatial)
    assert (full[:, channels:] == 0).all(), "channels past C are not zero"
    return np.ascontiguousarray(full[:, :channels])


def run_kernel(
    kernel: str,
    call: LogicalCall,
    feeds: Mapping[str, Array],
    constants: Mapping[str, Array] | None = None,
    target: Target = CPU8,
) -> Array:
    """The call's output by the named kernel on PoCL, planned for `target`."""
    return run_case(Case(kernel, call, feeds, constants or {}, target), pocl_device())


def chosen(call: LogicalCall, constants: Mapping[str, Array], target: Target) -> str | None:
    """Name of the kernel the engine would choose."""
    found = kernels.choose(call, Context(target, constants.get))
    return found[0] if found else None


def run_case(case: Case, device: cl.Device, variant: Variant = ()) -> Array:
    spec = kernels.REGISTRY.get(case.kernel)
    context = Context(case.target, case.constants.get, variant)
    assert spec.call == case.call.name
    assert spec.score(case.call, context) > 0, f"{case.kernel} does not take {case.call}"
    launches = list(spec.launches(case.call, context))
    compiler = compiler_for(device)
    compiler.prepare(launches)
    memory = _Memory(case, compiler.context, device)
    for launch in launches:
        _check(launch, case)
        program = compiler.kernel(launch)
        program.set_args(*(memory.argument(a) for a in launch.args))
        cl.enqueue_nd_range_kernel(
            memory.queue, program, launch.global_size, launch.local_size
        ).wait()
    return memory.result()


def _check(launch: Launch, case: Case) -> None:
    assert launch.flops >= 0
    assert launch.bytes_moved > 0
    if launch.local_size is not None:
        assert len(launch.local_size) == len(launch.global_size)
        assert not any(np.mod(launch.global_size, launch.local_size))
        assert np.prod(launch.local_size) <= case.target.max_work_group


class _Memory:
    """Guarded buffers of one case."""

    def __init__(self, case: Case, context: cl.Context, device: cl.Device) -> None:
        self.case = case
        self.queue = cl.CommandQueue(context, device)
        self._context = context
        self._buffers: dict[str, tuple[cl.Buffer, cl.Buffer, Array | None, int]] = {}

    def argument(self, arg: Any) -> Any:
        if isinstance(arg, Packed):
            if f"packed:{arg.key}" not in self._buffers:
                array = np.ascontiguousarray(arg.pack())
                assert array.nbytes == arg.nbytes, f"{arg.key}: {array.nbytes} not {arg.nbytes}"
                self._allocate(f"packed:{arg.key}", array, arg.nbytes)
            return self._buffers[f"packed:{arg.key}"][1]
        if isinstance(arg, Workspace):
            if arg.label not in self._buffers:
                self._allocate(arg.label, None, arg.nbytes)
            return self._buffers[arg.label][1]
        if isinstance(arg, Value):
            if arg.name not in self._buffers:
                self._allocate(arg.name, self._content(arg), arg.nbytes)
            return self._buffers[arg.name][1]
        return arg

    def _content(self, wanted: Value) -> Array | None:
        if wanted.name == self.case.call.output.name:
            return None
        given = {**self.case.feeds, **self.case.constants}
        array = np.ascontiguousarray(given[wanted.name], numpy_dtype(wanted.dtype))
        block = wanted.layout.block
        return pack_blocked(array, block) if block else array

    def _allocate(self, name: str, content: Array | None, nbytes: int) -> None:
        host = np.full(nbytes + 2 * GUARD_BYTES, 0xFF, np.uint8)
        if content is not None:
            host[GUARD_BYTES : GUARD_BYTES + nbytes] = content.reshape(-1).view(np.uint8)
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        whole = cl.Buffer(self._context, flags, hostbuf=host)
        part = whole.get_sub_region(GUARD_BYTES, max(nbytes, 1))
        self._buffers[name] = (whole, part, content, nbytes)

    def result(self) -> Array:
        output = self.case.call.output
        for name, (whole, _, content, nbytes) in self._buffers.items():
            host = np.empty(nbytes + 2 * GUARD_BYTES, np.uint8)
            cl.enqueue_copy(self.queue, host, whole, is_blocking=True)
            guards = np.concatenate([host[:GUARD_BYTES], host[GUARD_BYTES + nbytes :]])
            assert (guards == 0xFF).all(), f"{name}: written outside its memory"
            inner = host[GUARD_BYTES : GUARD_BYTES + nbytes]
            if content is not None:
                assert (inner == content.reshape(-1).view(np.uint8)).all(), f"{name}: overwritten"
            if name == output.name:
                found = np.frombuffer(inner.tobytes(), numpy_dtype(output.dtype))
        shape = output.static_shape
        found = found.reshape(output.layout.physical_shape(shape))
        return unpack_blocked(found, shape[1]) if output.layout.block else found


@functools.cache
def pocl_device() -> cl.Device:
    """PoCL's device, of the wheel where a distribution's is there too: it takes less."""
    found = [d for d in list_devices() if "Portable Computing" in d.platform_name]
    if not found:
        pytest.skip("PoCL is not installed")
    return min(found, key=lambda d: "debian" in d.platform_version).opencl()


def run_on_rusticl(cases: Sequence[Case], folder: Path) -> list[Array]:
    """Every case on Rusticl's llvmpipe; skips (or fails, in CI) where that is not installed."""
    source, sink = folder / "cases.pickle", folder / "results.pickle"
    source.write_bytes(pickle.dumps(list(cases)))
    done = subprocess.run(
        [sys.executable, __file__, str(source), str(sink)],
        env={**os.environ, "RUSTICL_ENABLE": "llvmpipe", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    if done.returncode == _NO_RUSTICL:
        if os.environ.get("REKINDLE_REQUIRE_TOOLS", "0") not in ("", "0"):
            pytest.fail("Rusticl is not installed (mesa-opencl-icd)")
        pytest.skip("Rusticl is not installed (mesa-opencl-icd)")
    assert done.returncode == 0, done.stderr[-4000:]
    results: list[Array] = pickle.loads(sink.read_bytes())
    return results


_NO_RUSTICL = 77


def _main(source: str, sink: str) -> int:
    found = [p for p in cl.get_platforms() if p.name == "rusticl" and p.get_devices()]
    if not found:
        return _NO_RUSTICL
    device = found[0].get_devices()[0]
    # The cases name this module as their home; as a script it is __main__.
    sys.modules["kernel_harness"] = sys.modules["__main__"]
    cases = pickle.loads(Path(source).read_bytes())
    Path(sink).write_bytes(pickle.dumps([run_case(case, device) for case in cases]))
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
