"""PoCL's wheel compiles on this processor, whatever LLVM 14 calls it."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import numpy as np
import pytest

from rekindle.device import list_devices, pocl_wheel

ZEN5 = "flags\t\t: fpu fma movbe f16c bmi1 avx2 bmi2 avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (ZEN5, "skylake-avx512"),
        (ZEN5.replace(" avx512bw", ""), "haswell"),
        ("model name: old\nflags : fpu sse2", "x86-64"),
        ("", "x86-64"),
    ],
)
def test_the_name_never_promises_instructions_that_are_not_there(cpuinfo: str, name: str) -> None:
    assert pocl_wheel.processor_name(cpuinfo) == name


class Record:
    """A driver's device record of our own making: pointers to texts, and wild words."""

    def __init__(self, name: bytes) -> None:
        self.text = ctypes.create_string_buffer(name)
        self.memory = ctypes.create_string_buffer(1024)
        words = [0, 7, 2**63, ctypes.addressof(self.text), 0xDEADBEEF0000]
        self.memory[: 8 * len(words)] = struct.pack(f"<{len(words)}Q", *words)
        self.int_ptr = ctypes.addressof(self.memory)

    def name(self) -> bytes:
        (address,) = struct.unpack_from("<Q", self.memory, 24)
        return ctypes.string_at(address)


@pytest.fixture
def cpuinfo(tmp_path: Path) -> Path:
    path = tmp_path / "cpuinfo"
    path.write_text(ZEN5)
    return path


def test_an_unknown_processor_gets_a_name(cpuinfo: Path) -> None:
    record = Record(b"generic")
    named = pocl_wheel.name_processor(record.int_ptr, "OpenCL 3.0 PoCL 3.0-rc2  Linux", cpuinfo)
    again = pocl_wheel.name_processor(record.int_ptr, "PoCL 3.0-rc2", cpuinfo)
    assert named == again == "skylake-avx512"
    assert record.name() == b"skylake-avx512"


@pytest.mark.parametrize(
    ("version", "name"), [("PoCL 3.0-rc2", b"znver3"), ("PoCL 3.1+debian", b"generic")]
)
def test_other_records_are_left_alone(cpuinfo: Path, version: str, name: bytes) -> None:
    record = Record(name)
    assert pocl_wheel.name_processor(record.int_ptr, version, cpuinfo) is None
    assert record.name() == name


@pytest.mark.opencl
def test_every_listed_cpu_device_compiles_and_runs() -> None:
    import pyopencl as cl

    for device in (d for d in list_devices() if d.family == "cpu"):
        context = cl.Context([device.opencl()])
        source = "__kernel void twice(__global float *x) { x[get_global_id(0)] *= 2.0f; }"
        program = cl.Program(context, source).build(cache_dir=False)
        x = np.arange(100, dtype=np.float32)
        buffer = cl.Buffer(context, cl.mem_flags.COPY_HOST_PTR, hostbuf=x)
        queue = cl.CommandQueue(context)
        program.twice(queue, x.shape, None, buffer)
        cl.enqueue_copy(queue, x, buffer)
        np.testing.assert_array_equal(x, 2 * np.arange(100, dtype=np.float32))
