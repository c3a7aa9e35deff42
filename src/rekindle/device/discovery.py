"""Asks OpenCL for its platforms and devices. The only file here that touches pyopencl.

pyopencl is imported at the first call, not with the module: `rekindle doctor` must be able to say
what is wrong where it does not load.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rekindle import _config, _log
from rekindle.device import pocl_linker
from rekindle.device.capability import Device, Kind, Platform
from rekindle.device.matching import match
from rekindle.device.pocl_wheel import name_processor
from rekindle.device.quirks import quirks_of

_GPU, _CPU = 1 << 2, 1 << 1  # CL_DEVICE_TYPE_*
_LDS_32K = 32 * 1024
_EXTENSIONS = frozenset(
    {
        "cl_intel_subgroups",
        "cl_khr_byte_addressable_store",
        "cl_khr_command_buffer",
        "cl_khr_fp16",
        "cl_khr_fp64",
        "cl_khr_int64_base_atomics",
        "cl_khr_integer_dot_product",
        "cl_khr_subgroups",
    }
)


@functools.cache
def list_platforms() -> tuple[Platform, ...]:
    """Every OpenCL platform, also empty and broken ones, in the loader's order; asked once.

    () where OpenCL is not there at all: no driver, or a pyopencl that does not load (one warning
    says why).
    """
    try:
        platforms = _opencl().get_platforms()
    except Exception as error:  # a loader can fail in any way; the processor must stay usable
        if "PLATFORM_NOT_FOUND" not in str(error):
            _log.warn_once(f"OpenCL cannot be used: {error}")
        return ()
    return describe(platforms)


def list_devices() -> tuple[Device, ...]:
    """Every OpenCL device of every platform, indices as `select_device` takes them."""
    return tuple(device for platform in list_platforms() for device in platform.devices)


def describe(platforms: Sequence[Any]) -> tuple[Platform, ...]:
    """Platforms of pyopencl as plain data. What raises is noted, and stops nothing else."""
    found: list[Platform] = []
    for platform in platforms:
        found.append(_platform(platform, sum(len(p.devices) for p in found)))
    return tuple(found)


def _platform(platform: Any, first_index: int) -> Platform:
    problems: list[str] = []
    name, version, vendor = (
        str(_guarded(problems, getattr, platform, question) or "").strip()
        for question in ("name", "version", "vendor")
    )
    devices: list[Device] = []
    for handle in _guarded(problems, platform.get_devices) or ():
        index = first_index + len(devices)
        device = _guarded(problems, _device, index, handle, (name, version, vendor))
        if device is not None:
            devices.append(device)
    return Platform(name, version, vendor, tuple(devices), "; ".join(problems) or None)


def _opencl() -> Any:
    """pyopencl, imported once PoCL finds what it looks for at its first call.

    Without POCL_AFFINITY its workers often share a core: half the speed. Without a linker it
    builds nothing.
    """
    if not _config.flag("REKINDLE_KEEP_AFFINITY"):
        os.environ.setdefault("POCL_AFFINITY", "1")
    if os.name == "posix":
        pocl_linker.provide()
    import pyopencl

    return pyopencl


def _guarded(problems: list[str], ask: Callable[..., Any], *args: Any) -> Any:
    """What `ask` answers; None, and a line in `problems`, when the driver raises."""
    try:
        return ask(*args)
    except Exception as error:  # drivers raise pyopencl.Error, but also RuntimeError, OSError
        problems.append(str(error) or type(error).__name__)
        return None


def _device(index: int, handle: Any, platform: tuple[str, str, str]) -> Device:
    name, version, vendor = platform
    extensions = frozenset(handle.extensions.split())
    kind = _kind(handle.type)
    board = str(_optional(handle, "board_name_amd") or "").strip()
    device_name = handle.name.strip()
    clock_hz = handle.max_clock_frequency * 1_000_000
    found = None
    if kind == "gpu":
        found = match(
            device_name,
            board_name=board,
            compute_units=handle.max_compute_units,
            global_bytes=handle.global_mem_size,
            clock_hz=clock_hz,
        )
    chip = found.row.chip.name if found else ""
    quirks = quirks_of(
        platform=name,
        version=version,
        device=f"{device_name} {board} {chip}",
        driver=handle.driver_version,
    )
    compiled_for = name_processor(_optional(handle, "int_ptr"), version, Path("/proc/cpuinfo"))
    if compiled_for == "skylake-avx512":
        # Named by us, the wheel compiles for AVX-512 and does have the lanes it reports.
        quirks = tuple(q for q in quirks if "float8_vectors" not in q.effects)
    lds_limit = any("lds_32k" in quirk.effects for quirk in quirks)
    return Device(
        index=index,
        platform_name=name,
        platform_version=version,
        platform_vendor=vendor,
        name=device_name,
        board_name=board,
        vendor=handle.vendor.strip(),
        kind=kind,
        driver=handle.driver_version.strip(),
        opencl_version=handle.version.strip(),
        compute_units=handle.max_compute_units,
        wavefront=_wavefront(handle, kind, found.row.chip.wavefront if found else 1),
        lds_bytes=min(handle.local_mem_size, _LDS_32K) if lds_limit else handle.local_mem_size,
        global_bytes=handle.global_mem_size,
        max_alloc_bytes=handle.max_mem_alloc_size,
        alignment_bytes=handle.mem_base_addr_align // 8,
        max_work_group=handle.max_work_group_size,
        clock_hz=clock_hz,
        fp16="cl_khr_fp16" in extensions,
        fp64="cl_khr_fp64" in extensions,
        extensions=extensions & _EXTENSIONS,
        match=found,
        quirks=quirks,
        handle=handle,
    )


def _kind(type_bits: int) -> Kind:
    if type_bits & _GPU:
        return "gpu"
    return "cpu" if type_bits & _CPU else "accelerator"


def _wavefront(handle: Any, kind: Kind, of_chip: int) -> int:
    """Lanes that run together: what the driver says, else the table, else 1."""
    if kind == "cpu" and (width := handle.preferred_vector_width_float) > 1:
        return int(width)
    for question in ("wavefront_width_amd", "warp_size_nv", "preferred_work_group_size_multiple"):
        if answer := _optional(handle, question):
            return int(answer)
    return of_chip


def _optional(handle: Any, question: str) -> Any:
    """A vendor's own question: None where the driver does not know it."""
    try:
        return getattr(handle, question)
    except Exception:  # INVALID_VALUE here, AttributeError from an older pyopencl
        return None
