"""`rekindle devices`: what this machine can compute on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from rekindle._errors import DeviceError, UsageError
from rekindle.cli._commands import Outcome, commands
from rekindle.cli._options import DeviceOption
from rekindle.cli._page import Page, amount, memory, plain, table, working
from rekindle.device import Device, list_devices, list_platforms, select_device
from rekindle.device.telemetry import Telemetry, read_telemetry


def devices(
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Measure what the hybrid provider decides by, anew."),
    ] = False,
    device: DeviceOption = None,
) -> Outcome:
    """List the OpenCL devices of this machine, and what the cards are doing right now."""
    if calibrate:
        return _calibrate(device)
    if device is not None:
        raise UsageError("--device goes with --calibrate", hint="rekindle devices --calibrate")
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


def _calibrate(choice: str | None) -> Outcome:
    from rekindle.runtime.hybrid.calibration import calibration_for

    chosen = select_device(choice)
    with working(f"measuring {chosen.board_name or chosen.name} and the processor"):
        made = calibration_for(chosen, anew=True)

    def draw(page: Page) -> None:
        page.line(f"{chosen}, against ONNX Runtime on the processor", style="bold")
        numbers = ("device", "processor")
        sides = table("", *numbers, numbers=numbers)
        rows = (
            ("convolution", "conv_flops_s", "FLOP/s"),
            ("matrix product", "matmul_flops_s", "FLOP/s"),
            ("memory", "bytes_s", "B/s"),
            ("one small operation", "call_s", "s"),
        )
        for name, field, unit in rows:
            values = (getattr(side, field) for side in (made.device, made.cpu))
            sides.add_row(name, *(_quantity(value, unit) for value in values))
        page.draw(sides)
        for name, link in (("upload", made.upload), ("download", made.download)):
            rate, wait = amount(link.bytes_s, "B/s"), _quantity(link.latency_s, "s")
            page.line(f"{name}: {rate}, and {wait} each time")
        page.next_steps(
            [("rekindle bench MODEL -p opencl,hybrid,onnxruntime", "what pays for a model")]
        )

    return Outcome(made.to_dict(), draw)


def _quantity(value: float, unit: str) -> str:
    return f"{value * 1e6:.1f} us" if unit == "s" else amount(value, unit)


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
