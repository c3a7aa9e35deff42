"""The doctor on recorded systems: file-system trees, environments and OpenCL platforms."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from recorded_devices import Driver, amd, clover, plant, platforms, pocl, rusticl, windows_rx580
from recorded_systems import (
    BASE,
    CASES,
    HEALTHY,
    INSTALL,
    LOADED,
    NODE,
    ON,
    OS,
    USER,
    Case,
    card,
)

from rekindle.device import doctor
from rekindle.device.doctor import Finding, diagnose, examine
from rekindle.device.system import System, current_system, read_system, windows_gpus


def recorded(root: Path, case: Case) -> System:
    plant(root, dict(case.files))
    node = root / "dev/dri/renderD128"
    if node.exists():
        node.chmod(case.node_mode)
    found = platforms(*case.drivers)
    return read_system(root, case.environment, found, uid=USER, gids=[USER, *case.groups])


@pytest.mark.parametrize("name", CASES)
def test_recorded_system(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    findings = examine(recorded(tmp_path, case))
    assert [(f.id, f.command) for f in findings] == case.expected
    for finding in findings:
        assert finding.title
        assert finding.command or finding.detail, "a finding says what to do"


@pytest.mark.parametrize(
    ("os_release", "command", "sentence"),
    [
        ("debian13", INSTALL, ""),
        ("ubuntu", INSTALL, ""),
        ("mint", INSTALL, ""),
        ("fedora", "sudo dnf install mesa-libOpenCL", ""),
        ("arch", "sudo pacman -S opencl-mesa", ""),
        ("tumbleweed", "sudo zypper install Mesa-libRusticlOpenCL", ""),
        ("alpine", "doas apk add mesa-rusticl", ""),
        ("nixos", None, "hardware.graphics.extraPackages"),
        ("slackware", None, "with the package manager"),
        (None, None, "with the package manager"),
    ],
)
def test_the_command_is_the_distribution_s_own(
    tmp_path: Path, os_release: str | None, command: str | None, sentence: str
) -> None:
    files = {**BASE, **LOADED, **NODE, **card()}
    if os_release:
        files["usr/lib/os-release"] = OS[os_release]
    first = examine(recorded(tmp_path, Case(files, [])))[0]
    assert (first.id, first.severity, first.command) == ("no-opencl-driver", "error", command)
    assert sentence in first.detail


@pytest.mark.parametrize("os_release", ["nixos", "slackware"])
def test_an_upgrade_without_a_command_is_a_sentence(tmp_path: Path, os_release: str) -> None:
    files = {**HEALTHY, "etc/os-release": OS[os_release]}
    case = Case(files, [], (clover(mesa="22.3.6"), rusticl(), pocl()))
    first = examine(recorded(tmp_path, case))[0]
    assert (first.id, first.command) == ("old-mesa", None)
    assert "Upgrade" in first.detail or "newer" in first.detail


def test_messages_name_the_facts(tmp_path: Path) -> None:
    case = CASES["Debian 12: old Mesa, empty Clover in front"]
    by_id = {finding.id: finding for finding in examine(recorded(tmp_path, case))}
    assert by_id["old-mesa"].title == (
        "Mesa 22.3.6 is too old: Rusticl serves Radeon cards from 23.1 on"
    )
    assert "https://backports.debian.org/Instructions/" in by_id["old-mesa"].detail
    assert "in front" in by_id["empty-clover"].title
    assert by_id["ready"].title.startswith("Rekindle runs on 0: pthread-")


def test_root_needs_no_group(tmp_path: Path) -> None:
    case = CASES["not in the groups"]
    plant(tmp_path, dict(case.files))
    (tmp_path / "dev/dri/renderD128").chmod(0o660)
    system = read_system(tmp_path, ON, platforms(rusticl(), pocl()), uid=0, gids=[0])
    assert "no-permission" not in {finding.id for finding in examine(system)}


def test_worst_first_and_the_rest_in_the_order_of_the_rules() -> None:
    findings = examine(System())
    severities = [finding.severity for finding in findings]
    assert severities == sorted(severities, key=["error", "warning", "info", "ok"].index)
    rules = (*doctor.LINUX, *doctor.WINDOWS, *doctor.ANYWHERE)
    assert len(rules) == len(set(rules))


HARDWARE = [r"PCI\VEN_1002&DEV_67DF&SUBSYS_E3871DA2&REV_E7", r"PCI\VEN_8086&DEV_3E92", "ROOT\\X"]


def windows(*drivers: Driver) -> tuple[Finding, ...]:
    gpus = windows_gpus(HARDWARE)
    return examine(System(os_name="nt", gpus=gpus, platforms=platforms(*drivers)))


def test_windows_with_amd_s_driver() -> None:
    assert [finding.id for finding in windows(amd(windows_rx580()))] == ["ready"]


def test_windows_without_amd_s_opencl() -> None:
    findings = windows()
    assert [(f.id, f.command) for f in findings] == [
        ("amd-driver-without-opencl", None),
        ("no-device", None),
    ]
    assert "1002:67df (polaris10)" in findings[0].title
    assert "https://www.amd.com/en/support" in findings[0].detail
    assert "ONNX Runtime" in findings[1].detail
    assert "PoCL" not in findings[1].detail, "its wheel is for Linux"


def test_windows_hardware_ids() -> None:
    radeon, intel = windows_gpus(HARDWARE)
    assert (radeon.vendor, radeon.device, radeon.revision) == ("1002", "67df", "e7")
    assert (intel.vendor, intel.device, intel.revision, intel.chip) == ("8086", "3e92", "", None)


def test_on_windows_only_opencl_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = platforms(amd(windows_rx580()))
    monkeypatch.setattr("rekindle.device.system.os", SimpleNamespace(name="nt"))
    monkeypatch.setattr("rekindle.device.system.list_platforms", lambda: found)
    system = current_system()
    assert (system.os_name, system.platforms, system.gpus) == ("nt", found, ())
    assert [finding.id for finding in examine(system)] == ["ready"]


def test_garbage_in_every_file_breaks_nothing(tmp_path: Path) -> None:
    case = CASES["Debian 12: switched off and too old, told once"]
    plant(tmp_path, dict(case.files))
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(b"\xff\xfe:::\x00= 0x\n" * 5)
    (tmp_path / "dev/dri/renderD129").symlink_to("nowhere")
    system = read_system(tmp_path, {}, (), uid=USER, gids=[])
    assert [finding.id for finding in examine(system)] == ["no-device", "no-amd-gpu"]


def test_this_machine_can_be_examined() -> None:
    findings = diagnose()
    assert findings
    assert findings[-1].severity == "ok" or findings[0].severity == "error"
