"""What the cost model knows of this machine: rates of both sides and of the way between them.

Measured once for each device, driver and version, in about a second, and kept in the cache folder;
`rekindle devices --calibrate` measures again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import rekindle
from rekindle import _config
from rekindle._files import write_whole
from rekindle._log import debug, warn_once
from rekindle.device import Device
from rekindle.device.architectures import Architecture


@dataclass(frozen=True)
class SideRates:
    """How fast one side computes."""

    call_s: float
    """Seconds between the starts of two small dependent operations."""
    conv_flops_s: float
    matmul_flops_s: float
    bytes_s: float
    """Of operations that hardly compute: read and written together."""

    def nanoseconds(
        self, flops: float, moved_bytes: float, *, calls: int = 1, convolves: bool = False
    ) -> int:
        """Estimate of an operation: its calls, and the roofline of this side."""
        peak = self.conv_flops_s if convolves else self.matmul_flops_s
        return round(1e9 * (calls * self.call_s + max(flops / peak, moved_bytes / self.bytes_s)))


@dataclass(frozen=True)
class Link:
    """One direction between host and device."""

    latency_s: float
    bytes_s: float

    def nanoseconds(self, nbytes: int) -> int:
        """Estimate of moving one value."""
        return round(1e9 * (self.latency_s + nbytes / self.bytes_s))


@dataclass(frozen=True)
class Calibration:
    """Everything `problem_of` needs, and where it comes from."""

    device: SideRates
    cpu: SideRates
    upload: Link
    download: Link
    source: str = "measured"
    key: Mapping[str, str] = field(default_factory=dict)
    """What it was measured on: it holds for nothing else."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_dict`; KeyError, TypeError or ValueError where data is no such."""
        return cls(
            SideRates(**_positive(data["device"])),
            SideRates(**_positive(data["cpu"])),
            Link(**_positive(data["upload"])),
            Link(**_positive(data["download"])),
            str(data["source"]),
            dict(data["key"]),
        )


def calibration_for(device: Device, *, anew: bool = False) -> Calibration:
    """The stored calibration of this device; measured and stored where there is none, or `anew`.

    A record that cannot be read is reported and made again; a cache folder that cannot be
    written is reported and done without.
    """
    key = _key(device)
    path = _path(key)
    stored = None if anew else _read(path, key)
    if stored is not None:
        return stored
    from rekindle.runtime.hybrid.measure import measure

    made = measure(device, key)
    debug(1, "calibration of %s: %s", device, made)
    _write(path, made)
    return made


def assumed(row: Architecture, cpu: SideRates) -> Calibration:
    """An estimate for a card that is not here: its roofline, and what is published of its kin.

    Launch latency 43 us and copies at 15 GB/s: clpeak on an RX 570 with PCIe 3.0 x16. `cpu` are
    the rates of the processor beside it.
    """
    chip = row.chip
    peak = row.fp32_flops * (chip.reachable_fp32 or 1.0)
    bandwidth = row.bandwidth_bytes_s() * (chip.reachable_bandwidth or 1.0)
    link = Link(43e-6, 15e9)
    rates = SideRates(43e-6, peak, peak, bandwidth)
    return Calibration(rates, cpu, link, link, f"assumed from the roofline of {row.name}")


def _key(device: Device) -> dict[str, str]:
    from importlib.metadata import version

    target = device.target()
    return {
        "device": target.name,
        "driver": f"{target.platform} {target.driver}",
        "disabled_kernels": ",".join(target.disabled_kernels),
        "processor": f"{platform.machine()} {platform.processor()} x{os.cpu_count()}",
        "rekindle": rekindle.__version__,
        "onnxruntime": version("onnxruntime"),
    }


def _path(key: Mapping[str, str]) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return _config.cache_dir() / "calibration" / f"{digest[:40]}.json"


def _read(path: Path, key: Mapping[str, str]) -> Calibration | None:
    try:
        found = Calibration.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        warn_once(f"the calibration in {path} is unreadable and made again: {error}")
        return None
    return found if found.key == key else None


def _write(path: Path, made: Calibration) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(made.to_dict(), indent=2).encode())
    except OSError as error:
        warn_once(f"the calibration is not kept in {path.parent}: {error}")


def _positive(rates: Mapping[str, Any]) -> dict[str, float]:
    made = {name: float(value) for name, value in rates.items()}
    if not all(0 < value < float("inf") for value in made.values()):
        raise ValueError(f"rates must be positive numbers: {made}")
    return made
