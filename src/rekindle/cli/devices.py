"""`rekindle devices`: what this machine can compute on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rekindle._errors import DeviceError
from rekindle.cli._commands import Outcome, commands
from rekindle.cli._page import Page, amount, memory, plain, table
from rekindle.device import Device, list_devices, list_platforms, select_device
from rekindle.device.telemetry import Telemetry, read_telemetry


def devices() -> Outcome:
    """List the OpenCL devices of this machine, and what the cards are doing right now."""
    found, cards = list_devices(), read_telemetry()
    default = _default_index()
    problems = [(p.name, p.problem) for p in list_platforms() if p.problem]
    document = {
        "devices": [device_facts(device) for device in found],
        "default": default,
        "problems": [{"platform": name, "problem": text} for name, text in problems],
        "telemetry": [asdict(card) for card in cards],
    }

    def draw(page: Page) -> None:
        if found:
            page.draw(_device_table(found, default))
        else:
            page.line("OpenCL offers no device; models run with ONNX Runtime on the processor.")
        for name, text in problems:
            page.line(
                f"The platform {name or 'without a name'} fails when asked: {text}", style="yellow"
            )
        if cards:
            page.heading("Cards right now")
            page.draw(_telemetry_table(cards))
        page.next_steps(
            [
                ("rekindle demo", "see a network name a photo on the device marked *"),
                ("rekindle doctor", "what is wrong or missing, and the command that mends it"),
            ]
        )

    return Outcome(document, draw)


def device_facts(device: Device) -> dict[str, Any]:
    """A device as plain data: sizes in bytes, the clock in Hz."""
    hidden = ("handle", "match", "quirks")
    facts = {key: value for key, value in vars(device).items() if key not in hidden}
    row = device.architecture
    return facts | {
        "architecture": row.name if row else None,
        "architecture_found_by": device.match.by if device.match else None,
        "quirks": [quirk.reason for quirk in device.quirks],
        "disabled_kernels": device.disabled_kernels,
        "unusable": device.unusable,
    }


def _default_index() -> int | None:
    try:
        return select_device().index
    except DeviceError:
        return None


def _device_table(found: tuple[Device, ...], default: int | None) -> Any:
    made = table("", "device", "platform", "kind", "units", "memory", numbers=("units", "memory"))
    for device in found:
        marked = device.index == default
        made.add_row(
            f"{'*' if marked else ' '}{device.index}",
            plain(device.board_name or device.name),
            plain(device.platform_name),
            device.kind,
            str(device.compute_units),
            memory(device.global_bytes),
            style="bold" if marked else "dim" if device.unusable else None,
        )
    return made


def _telemetry_table(cards: tuple[Telemetry, ...]) -> Any:
    numbers = ("temperature", "power", "busy", "memory in use", "core clock", "memory clock", "fan")
    made = table("card", *numbers, numbers=numbers)
    for card in cards:
        used = f"{memory(card.vram_used_bytes)} of {memory(card.vram_total_bytes)}"
        made.add_row(
            plain(card.name or card.card),
            _measured(card.temperature_c, " C"),
            _measured(card.power_w, " W"),
            _measured(card.busy_percent, " %"),
            used,
            amount(card.core_clock_hz, "Hz"),
            amount(card.memory_clock_hz, "Hz"),
            _measured(card.fan_rpm, " rpm"),
        )
    return made


def _measured(value: float | None, unit: str) -> str:
    """A reading; a dash where the card does not tell."""
    return "-" if value is None else f"{value:g}{unit}"


commands.register("devices", devices)
