"""amdgpu's sysfs, recorded: what is there is read, what is absent or malformed stays absent."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from recorded_devices import plant

from rekindle.device.telemetry import Telemetry, read_telemetry

PCI = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0"
RX580 = {
    f"{PCI}/vendor": "0x1002\n",
    f"{PCI}/device": "0x67df\n",
    f"{PCI}/revision": "0xe7\n",
    f"{PCI}/gpu_busy_percent": "37\n",
    f"{PCI}/mem_info_vram_total": "8589934592\n",
    f"{PCI}/mem_info_vram_used": "1073741824\n",
    f"{PCI}/pp_dpm_sclk": "0: 300Mhz \n1: 600Mhz \n2: 1266Mhz *\n3: 1340Mhz \n",
    f"{PCI}/pp_dpm_mclk": "0: 300Mhz *\n1: 1000Mhz \n2: 2000Mhz \n",
    f"{PCI}/hwmon/hwmon3/temp1_input": "54321\n",
    f"{PCI}/hwmon/hwmon3/power1_average": "93250000\n",
    f"{PCI}/hwmon/hwmon3/fan1_input": "1177\n",
    "sys/class/drm/card0/device": f"->../../../../{PCI}",
    "sys/class/drm/card0-DP-1/status": "connected\n",
    "sys/class/drm/renderD128/dev": "226:128\n",
    "sys/class/drm/version": "drm 1.1.0\n",
}


def changed(**files: str | None) -> dict[str, str]:
    """The RX 580 with some of its files replaced or taken away."""
    found = dict(RX580)
    for name, content in files.items():
        path = next((p for p in RX580 if p.endswith(f"/{name}")), f"{PCI}/hwmon/hwmon3/{name}")
        if content is None:
            del found[path]
        else:
            found[path] = content
    return found


def test_everything_an_rx580_tells(tmp_path: Path) -> None:
    assert read_telemetry(plant(tmp_path, RX580)) == (
        Telemetry(
            card="card0",
            pci_address="0000:01:00.0",
            device_id="67df",
            name="Radeon RX 580",
            busy_percent=37,
            vram_total_bytes=8 << 30,
            vram_used_bytes=1 << 30,
            core_clock_hz=1_266_000_000,
            memory_clock_hz=300_000_000,
            temperature_c=54.321,
            power_w=93.25,
            fan_rpm=1177,
        ),
    )


SOURCES = {
    "gpu_busy_percent": "busy_percent",
    "mem_info_vram_total": "vram_total_bytes",
    "mem_info_vram_used": "vram_used_bytes",
    "pp_dpm_sclk": "core_clock_hz",
    "pp_dpm_mclk": "memory_clock_hz",
    "temp1_input": "temperature_c",
    "power1_average": "power_w",
    "fan1_input": "fan_rpm",
}


@pytest.mark.parametrize(
    "content", [None, "", "N/A\n", "-1\n", "1.5e3", "0x10", "\x00\xff", "9" * 40]
)
@pytest.mark.parametrize("file", SOURCES)
def test_absent_or_malformed_is_none_and_harms_nothing_else(
    tmp_path: Path, file: str, content: str | None
) -> None:
    (whole,) = read_telemetry(plant(tmp_path / "whole", RX580))
    (reading,) = read_telemetry(plant(tmp_path / "part", changed(**{file: content})))
    assert reading == dataclasses.replace(whole, **{SOURCES[file]: None})


def test_more_than_all_is_not_a_load(tmp_path: Path) -> None:
    (reading,) = read_telemetry(plant(tmp_path, changed(gpu_busy_percent="101\n")))
    assert reading.busy_percent is None


def test_no_clock_is_marked_as_current(tmp_path: Path) -> None:
    (reading,) = read_telemetry(plant(tmp_path, changed(pp_dpm_sclk="0: 300Mhz\n1: 1340Mhz\n")))
    assert reading.core_clock_hz is None


def test_a_sleeping_clock_of_newer_cards(tmp_path: Path) -> None:
    (reading,) = read_telemetry(plant(tmp_path, changed(pp_dpm_sclk="S: 19Mhz *\n0: 500Mhz\n")))
    assert reading.core_clock_hz == 19_000_000


def test_power_under_its_other_name(tmp_path: Path) -> None:
    (reading,) = read_telemetry(
        plant(tmp_path, changed(power1_average=None, power1_input="12000000\n"))
    )
    assert reading.power_w == 12.0


@pytest.mark.parametrize(
    ("device", "revision", "name"),
    [
        ("0x67df\n", "0xef\n", "Radeon RX 570"),
        ("0x67df\n", "0x00\n", "polaris10"),
        ("0x699f\n", "", "polaris12"),
        ("0xabcd\n", "0x00\n", None),
        ("garbage", "0x00\n", None),
    ],
)
def test_the_name_is_as_sure_as_the_ids(
    tmp_path: Path, device: str, revision: str, name: str | None
) -> None:
    (reading,) = read_telemetry(plant(tmp_path, changed(device=device, revision=revision)))
    assert reading.name == name


def test_two_cards_in_order_and_others_left_out(tmp_path: Path) -> None:
    plant(tmp_path, RX580)
    plant(
        tmp_path,
        {
            "sys/class/drm/card10/device/vendor": "0x1002\n",
            "sys/class/drm/card2/device/vendor": "0x1002\n",
            "sys/class/drm/card1/device/vendor": "0x10de\n",
            "sys/class/drm/card3/device/vendor": "nonsense",
            "sys/class/drm/card4/": "",
        },
    )
    readings = read_telemetry(tmp_path)
    assert [r.card for r in readings] == ["card0", "card2", "card10"]
    assert readings[1] == Telemetry("card2", *[None] * 11)


def test_no_card_no_reading(tmp_path: Path) -> None:
    assert read_telemetry(tmp_path) == ()


def test_this_machine_can_be_read() -> None:
    assert all(reading.card.startswith("card") for reading in read_telemetry())
