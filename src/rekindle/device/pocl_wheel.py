"""PoCL's wheel on processors newer than its compiler.

The wheel (PoCL 3.0-rc2, LLVM 14, 2022) asks LLVM for the processor's name. LLVM 14 calls AMD
processors from 2024 on (family 26, Zen 5) "generic", a name that its own front-end then refuses:
every build fails with "unknown target CPU 'generic'". PoCL has no setting for it. So the name
that the driver keeps in its device record is replaced, once, by one that LLVM 14 knows and whose
instructions this processor has. Nothing is touched unless the record says "generic".
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from rekindle._log import debug

_WHEEL = "PoCL 3.0-rc2"
_RECORD_BYTES = 1024
"""How much of the driver's device record is searched; the name stands at 640 in this build."""
_UNKNOWN = b"generic"
_NAME_BYTES = 16
_SETS = (
    ("skylake-avx512", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma"}),
    ("haswell", {"avx2", "fma", "bmi1", "bmi2", "movbe", "f16c"}),
    ("x86-64", set[str]()),
)


def name_processor(record: int | None, platform_version: str, cpuinfo: Path) -> str | None:
    """Give the wheel's device a processor name it can compile for.

    `record` is the address of the driver's device record (`pyopencl.Device.int_ptr`). Returns the
    name where one was needed, also when asked again; None where the driver knows the processor.
    """
    if record is None or os.name != "posix" or _WHEEL not in platform_version:
        return None
    return _rename(record, processor_name(cpuinfo.read_text(encoding="utf-8")))


def processor_name(cpuinfo: str) -> str:
    """The newest name LLVM 14 knows whose instruction sets are all in /proc/cpuinfo's flags."""
    line = next((row for row in cpuinfo.splitlines() if row.startswith("flags")), "")
    flags = set(line.partition(":")[2].split())
    return next(name for name, needed in _SETS if needed <= flags)


def _rename(record: int, name: str) -> str | None:
    with Path("/proc/self/mem").open("rb", buffering=0) as file:
        memory = file.fileno()
        words = struct.unpack(f"<{_RECORD_BYTES // 8}Q", os.pread(memory, _RECORD_BYTES, record))
        for position, address in enumerate(words):
            text = _text_at(memory, address)
            if text == name.encode():
                return name
            if text == _UNKNOWN:
                # The C library's own copy: the driver may free it when it unloads.
                duplicate = ctypes.CDLL(None).strdup
                duplicate.restype = ctypes.c_void_p
                field = ctypes.c_void_p.from_address(record + 8 * position)
                field.value = duplicate(name.encode())
                debug(1, "PoCL does not know this processor: compiling for %s", name)
                return name
    return None


def _text_at(memory: int, address: int) -> bytes:
    """The text at an address, read through the kernel so that a wild one is no crash."""
    try:
        data = os.pread(memory, _NAME_BYTES, address) if 4096 < address < 2**47 else b""
    except OSError:
        return b""
    return data.partition(b"\0")[0]
