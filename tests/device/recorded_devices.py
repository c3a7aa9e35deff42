"""Devices as real machines reported them, and compact builders for systems and drivers."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rekindle.device import Device, Platform
from rekindle.device.discovery import describe

GPU, CPU, ACCELERATOR = 4, 2, 8


@dataclass
class Handle:
    """Answers as a `pyopencl.Device` does; a fact that is an exception is raised."""

    facts: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = self.facts[name] if name in self.facts else AttributeError(name)
        if isinstance(value, Exception):
            raise value
        return value


@dataclass
class Driver:
    """Answers as a `pyopencl.Platform` does."""

    name: Any
    version: str
    vendor: str
    handles: list[Handle] | Exception = field(default_factory=list)

    def get_devices(self) -> list[Handle]:
        if isinstance(self.handles, Exception):
            raise self.handles
        return self.handles


def facts(**changes: Any) -> dict[str, Any]:
    """A Radeon RX 580 8 GB under Rusticl, unless changed."""
    return {
        "name": "AMD Radeon RX 580 Series (radeonsi, polaris10, ACO, DRM 3.57, 6.8.0-45-generic)",
        "vendor": "AMD",
        "version": "OpenCL 3.0 ",
        "driver_version": "25.0.7",
        "type": GPU,
        "extensions": "cl_khr_byte_addressable_store cl_khr_fp64 cl_khr_icd",
        "max_compute_units": 36,
        "max_clock_frequency": 1340,
        "global_mem_size": 8 << 30,
        "max_mem_alloc_size": 2 << 30,
        "local_mem_size": 65536,
        "mem_base_addr_align": 4096,
        "max_work_group_size": 1024,
        "preferred_vector_width_float": 1,
        "preferred_work_group_size_multiple": 64,
        **changes,
    }


def rusticl(*devices: dict[str, Any]) -> Driver:
    return Driver("rusticl", "OpenCL 3.0 ", "Mesa/X.org", [Handle(d) for d in devices])


def clover(*devices: dict[str, Any], mesa: str = "22.3.6") -> Driver:
    return Driver("Clover", f"OpenCL 1.1 Mesa {mesa}", "Mesa", [Handle(d) for d in devices])


def amd(*devices: dict[str, Any]) -> Driver:
    """AMD's own driver, Windows or amdgpu-pro."""
    name = "AMD Accelerated Parallel Processing"
    handles = [Handle(d) for d in devices]
    return Driver(name, "OpenCL 2.1 AMD-APP (3240.7)", "Advanced Micro Devices, Inc.", handles)


def pocl(release: str = "3.1+debian", **changes: Any) -> Driver:
    processor = facts(
        name="pthread-skylake-avx512-AMD EPYC",
        vendor="AuthenticAMD",
        version="OpenCL 3.0 PoCL HSTR: pthread-x86_64-pc-linux-gnu-skylake-avx512",
        driver_version=release,
        type=CPU,
        max_compute_units=2,
        max_clock_frequency=2596,
        global_mem_size=5865943040,
        local_mem_size=1 << 20,
        mem_base_addr_align=1024,
        max_work_group_size=4096,
        preferred_vector_width_float=16,
        preferred_work_group_size_multiple=8,
    )
    version = f"OpenCL 3.0 PoCL {release}  Linux, RELOC, SPIR"
    handles = [Handle({**processor, **changes})]
    return Driver("Portable Computing Language", version, "The pocl project", handles)


def windows_rx580() -> dict[str, Any]:
    """The same card under AMD's driver: chip for a name, the board aside."""
    return facts(
        name="Ellesmere",
        vendor="Advanced Micro Devices, Inc.",
        version="OpenCL 2.0 AMD-APP (3240.7)",
        driver_version="3240.7",
        board_name_amd="Radeon RX 580 Series",
        local_mem_size=32768,
        mem_base_addr_align=2048,
        max_work_group_size=256,
        wavefront_width_amd=64,
    )


def llvmpipe(**changes: Any) -> dict[str, Any]:
    return {
        **facts(
            name="llvmpipe (LLVM 15.0.6, 256 bits)",
            vendor="Mesa/X.org",
            driver_version="22.3.6",
            type=CPU,
            max_compute_units=8,
            max_clock_frequency=300,
            global_mem_size=2 << 30,
            local_mem_size=32768,
            preferred_work_group_size_multiple=32,
        ),
        **changes,
    }


def platforms(*drivers: Driver) -> tuple[Platform, ...]:
    return describe(drivers)


def devices(*drivers: Driver) -> list[Device]:
    return [device for platform in platforms(*drivers) for device in platform.devices]


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write `files` (path: content) under `root`: "x/" is a folder, content "->y" a link to y."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        elif content.startswith("->"):
            path.symlink_to(content[2:])
        else:
            path.write_text(content, encoding="utf-8")
    return root


def need(condition: object, reason: str) -> None:
    """Skip without `condition`; fail where CI promised the tool."""
    if not condition:
        if os.environ.get("REKINDLE_REQUIRE_TOOLS", "0") not in ("", "0"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def need_program(name: str) -> str:
    path = shutil.which(name)
    need(path, f"{name} is not installed")
    assert path is not None
    return path
