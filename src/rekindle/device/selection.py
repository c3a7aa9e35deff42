"""Chooses a device: by name or index if asked, else by what it can do, never by platform order."""

from __future__ import annotations

from collections.abc import Sequence

from rekindle import _config
from rekindle._errors import DeviceError
from rekindle.device.capability import Device
from rekindle.device.discovery import list_devices

_PREFERENCE = {"rusticl": 3, "Clover": 1, "Portable Computing Language": 0}
"""Among platforms that show the same processor; those not named (vendors' own) come between."""
_VENDOR_DRIVER = 2
_PROCESSOR_PREFERENCE = {"Portable Computing Language": 3, "rusticl": 1}
"""On the processor itself PoCL's compiler is far ahead of llvmpipe."""


def select_device(choice: str | int | None = None) -> Device:
    """The device to work on.

    `choice` is an index of `list_devices()` or part of a device's or platform's name, case aside;
    of several that fit the most capable is taken. None: REKINDLE_DEVICE decides if it is set,
    else the most capable device. DeviceError lists what there is and says what to do.
    """
    if choice is None and (asked := _config.read("REKINDLE_DEVICE")):
        return choose(list_devices(), asked, by_variable=True)
    return choose(list_devices(), choice)


def choose(
    devices: Sequence[Device], choice: str | int | None, *, by_variable: bool = False
) -> Device:
    """`select_device` over given devices; `by_variable` only colours the message."""
    if not devices:
        raise DeviceError(
            "OpenCL offers no device", hint="`rekindle doctor` says why and what to install"
        )
    ordered = by_capability(devices)
    if choice is None:
        if ordered[0].unusable:
            raise DeviceError(
                f"no usable OpenCL device: {ordered[0]} is {ordered[0].unusable}",
                hint="`rekindle doctor` says what to install; or name the device to try it",
            )
        return ordered[0]
    found = _by_index(devices, choice) or _by_name(ordered, choice)
    if found is None:
        listed = "; ".join(str(device) for device in devices)
        source = "REKINDLE_DEVICE=" if by_variable else "device "
        raise DeviceError(
            f"{source}{choice!r} fits none of the OpenCL devices: {listed}",
            hint="give an index or part of a name; a device that is missing: `rekindle doctor`",
        )
    return found


def by_capability(devices: Sequence[Device]) -> list[Device]:
    """The devices, best first.

    Usable before unusable, graphics before the processor, then estimated arithmetic. Platforms
    that show the same card count as one processor: its place is that of its best figure, and
    among them Rusticl comes before the vendor's driver, Clover and PoCL. Ties: fewer quirks first.
    """
    best: dict[tuple[str, int], float] = {}
    for device in devices:
        key = _processor(device)
        best[key] = max(best.get(key, 0.0), _flops(device))
    return sorted(
        devices,
        key=lambda d: (
            d.unusable is not None,
            2 if d.is_host_cpu else int(d.kind != "gpu"),
            -best[_processor(d)],
            -_preference(d),
            -_flops(d),
            len(d.quirks),
            d.index,
        ),
    )


def _processor(device: Device) -> tuple[str, int]:
    """The same for one card seen through several platforms (and for twins, which is harmless)."""
    if device.is_host_cpu:
        return "processor", 0
    row = device.architecture
    name = row.chip.name if row and row.chip.names else device.name.lower()
    return name, device.compute_units


def _preference(device: Device) -> int:
    table = _PROCESSOR_PREFERENCE if device.is_host_cpu else _PREFERENCE
    return table.get(device.platform_name, _VENDOR_DRIVER)


def _flops(device: Device) -> float:
    """A rough peak, to compare devices with; never shown."""
    row = device.architecture
    lanes = row.chip.lanes if row else device.wavefront
    return float(device.compute_units * lanes * 2 * device.clock_hz)


def _by_index(devices: Sequence[Device], choice: str | int) -> Device | None:
    if isinstance(choice, str) and not choice.strip().isdecimal():
        return None
    return next((device for device in devices if device.index == int(choice)), None)


def _by_name(ordered: Sequence[Device], choice: str | int) -> Device | None:
    part = str(choice).strip().lower()
    if isinstance(choice, int) or not part:
        return None
    return next(
        (d for d in ordered if part in f"{d.board_name} {d.name} {d.platform_name}".lower()),
        None,
    )
