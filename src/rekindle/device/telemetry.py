"""What the amdgpu kernel driver tells of a card while it works, from sysfs.

Kernel documentation: https://docs.kernel.org/gpu/amdgpu/thermal.html. A value that is absent,
unreadable or malformed is None; none is ever guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rekindle.device.architectures import chip_of_pci
from rekindle.device.matching import match

_AMD = "1002"
_CURRENT_CLOCK = re.compile(r"^\s*\w+:\s*(\d+)\s*mhz\s*\*", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Telemetry:
    """One reading of one card."""

    card: str
    """The kernel's name for it ("card0")."""
    pci_address: str | None
    device_id: str | None
    name: str | None
    """From the architecture table, by device id and revision; else the chip's name."""
    busy_percent: int | None
    vram_total_bytes: int | None
    vram_used_bytes: int | None
    core_clock_hz: int | None
    memory_clock_hz: int | None
    temperature_c: float | None
    power_w: float | None
    fan_rpm: int | None


def read_telemetry(root: Path = Path("/")) -> tuple[Telemetry, ...]:
    """A reading of every AMD card that the kernel shows under `root`, in order of card number."""
    cards = [
        path
        for path in _listed(root / "sys/class/drm")
        if re.fullmatch(r"card\d+", path.name) and _hex_id(path / "device/vendor") == _AMD
    ]
    return tuple(_read_card(path) for path in sorted(cards, key=lambda p: int(p.name[4:])))


def _read_card(path: Path) -> Telemetry:
    device = path / "device"
    monitor = next(iter(sorted(_listed(device / "hwmon"))), device / "hwmon/none")
    busy = _number(device / "gpu_busy_percent")
    millidegrees = _number(monitor / "temp1_input")
    microwatts = _number(monitor / "power1_average")
    if microwatts is None:  # older and newer kernels have one name each
        microwatts = _number(monitor / "power1_input")
    device_id = _hex_id(device / "device")
    return Telemetry(
        card=path.name,
        pci_address=_pci_address(device),
        device_id=device_id,
        name=_name(device_id, _hex_id(device / "revision", digits=2)),
        busy_percent=busy if busy is not None and 0 <= busy <= 100 else None,
        vram_total_bytes=_number(device / "mem_info_vram_total"),
        vram_used_bytes=_number(device / "mem_info_vram_used"),
        core_clock_hz=_current_clock_hz(device / "pp_dpm_sclk"),
        memory_clock_hz=_current_clock_hz(device / "pp_dpm_mclk"),
        temperature_c=None if millidegrees is None else millidegrees / 1000,
        power_w=None if microwatts is None else microwatts / 1e6,
        fan_rpm=_number(monitor / "fan1_input"),
    )


def _name(device_id: str | None, revision: str | None) -> str | None:
    if device_id is None:
        return None
    if found := match("", pci=f"{device_id}:{revision}"):
        return found.row.name
    chip = chip_of_pci(_AMD, device_id)
    return chip.name if chip else None


def _pci_address(device: Path) -> str | None:
    """`device` is a link to ../../../0000:01:00.0 on a real machine."""
    name = device.resolve().name
    return name if re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", name) else None


def _current_clock_hz(path: Path) -> int | None:
    """The line with the star: "2: 1266Mhz *"."""
    found = _CURRENT_CLOCK.search(_text(path) or "")
    return int(found[1]) * 1_000_000 if found else None


def _number(path: Path) -> int | None:
    text = (_text(path) or "").strip()
    return int(text) if re.fullmatch(r"\d{1,19}", text) else None


def _hex_id(path: Path, digits: int = 4) -> str | None:
    found = re.fullmatch(rf"0x([0-9a-f]{{{digits}}})", (_text(path) or "").strip().lower())
    return found[1] if found else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:  # absent, not permitted, or a card that sleeps
        return None


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
