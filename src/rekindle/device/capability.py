"""What OpenCL offers, as plain data: platforms, their devices, and what a device can do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from rekindle import _config
from rekindle._errors import DeviceError
from rekindle._types import Family, Target
from rekindle.device.architectures import Architecture
from rekindle.device.matching import Match
from rekindle.device.quirks import Quirk

Kind = Literal["gpu", "cpu", "accelerator"]
_SOFTWARE = re.compile(r"\b(llvmpipe|softpipe|swrast)\b", re.IGNORECASE)
_POCL = "Portable Computing Language"


@dataclass(frozen=True)
class Device:
    """One processor that OpenCL sees. Equal when its facts are; the driver's handle is aside."""

    index: int
    """Its place in `list_devices()`."""
    platform_name: str
    platform_version: str
    platform_vendor: str
    name: str
    board_name: str
    """The card's name where the driver reports it apart from the chip's (AMD's does); else ""."""
    vendor: str
    kind: Kind
    driver: str
    opencl_version: str
    compute_units: int
    wavefront: int
    """Work-items that run together; the float vector width on a processor."""
    lds_bytes: int
    """Local memory of a work-group."""
    global_bytes: int
    max_alloc_bytes: int
    alignment_bytes: int
    """Alignment of sub-buffers; OpenCL reports it in bits."""
    max_work_group: int
    clock_hz: int
    fp16: bool
    fp64: bool
    extensions: frozenset[str] = frozenset()
    """Those that planning looks at, not all that the driver lists."""
    match: Match | None = None
    quirks: tuple[Quirk, ...] = ()
    handle: Any = field(default=None, compare=False, repr=False)

    @property
    def architecture(self) -> Architecture | None:
        """The row of the architecture table, if there is one; `match` says how sure it is."""
        return self.match.row if self.match else None

    @property
    def is_host_cpu(self) -> bool:
        """True for the processor itself, also where a software renderer poses as more."""
        return self.kind == "cpu" or _SOFTWARE.search(self.name) is not None

    @property
    def family(self) -> Family:
        if self.kind == "cpu" and self.platform_name == _POCL:
            return "cpu"
        row = self.architecture
        return "gcn" if row and row.family == "gcn" and not self.is_host_cpu else "generic"

    @property
    def unusable(self) -> str | None:
        """Why Rekindle does not choose it by itself; None: it may."""
        for quirk in self.quirks:
            if "unsupported" in quirk.effects:
                return quirk.reason
        version = re.search(r"(\d+)\.(\d+)", self.opencl_version)
        if version and (int(version[1]), int(version[2])) < (1, 2):
            return f"{self.opencl_version}; the kernels need OpenCL 1.2"
        return None

    def has(self, effect: str) -> bool:
        """Whether one of its quirks has that effect (`quirks.EFFECTS`)."""
        return any(effect in quirk.effects for quirk in self.quirks)

    @property
    def disabled_kernels(self) -> tuple[str, ...]:
        """Kernels that its quirks or REKINDLE_DISABLE_KERNELS switch off."""
        of_quirks = (name for quirk in self.quirks for name in quirk.disabled_kernels)
        return tuple(dict.fromkeys((*of_quirks, *_config.disabled_kernels())))

    def target(self) -> Target:
        """What the planner needs of it; `driver` holds everything a tuning record depends on."""
        return Target(
            name=self.board_name or self.name,
            family=self.family,
            compute_units=self.compute_units,
            wavefront=min(self.wavefront, 8) if self.has("float8_vectors") else self.wavefront,
            lds_bytes=self.lds_bytes,
            global_bytes=self.global_bytes,
            max_alloc_bytes=self.max_alloc_bytes,
            alignment_bytes=self.alignment_bytes,
            max_work_group=self.max_work_group,
            fp16=self.fp16,
            fp64=self.fp64,
            platform=self.platform_name,
            driver=" ".join(f"{self.platform_version} | {self.driver}".split()),
            disabled_kernels=self.disabled_kernels,
        )

    def opencl(self) -> Any:
        """The `pyopencl.Device`; DeviceError for a device made from recorded facts."""
        if self.handle is None:
            raise DeviceError(
                f"device {self.index} ({self.name}) was made from recorded facts: no driver behind",
                hint="take one from list_devices() or select_device()",
            )
        return self.handle

    def __str__(self) -> str:
        return f"{self.index}: {self.board_name or self.name} ({self.platform_name})"


@dataclass(frozen=True)
class Platform:
    """One OpenCL platform (a driver), with its devices, or what it said instead."""

    name: str
    version: str
    vendor: str
    devices: tuple[Device, ...] = ()
    problem: str | None = None
    """What the driver raised when asked; the devices that answered are listed all the same."""
