"""The doctor on recorded systems: file-system trees, environments and OpenCL platforms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from recorded_devices import (
    Driver,
    amd,
    clover,
    facts,
    llvmpipe,
    plant,
    platforms,
    pocl,
    rusticl,
    windows_rx580,
)

from rekindle.device import doctor
from rekindle.device.doctor import Finding, diagnose, examine
from rekindle.device.system import System, current_system, read_system, windows_gpus

USER, VIDEO, RENDER = 1000, 44, 105
OS = {
    "debian13": 'ID=debian\nVERSION_ID="13"\n',
    "debian12": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n',
    "ubuntu": "ID=ubuntu\nID_LIKE=debian\nVERSION_ID='24.04'\n",
    "mint": 'ID=linuxmint\nID_LIKE="ubuntu debian"\n',
    "fedora": "ID=fedora\nVERSION_ID=42\n",
    "arch": "ID=arch\n",
    "tumbleweed": 'ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n',
    "alpine": "ID=alpine\n",
    "nixos": "ID=nixos\n",
    "slackware": "ID=slackware\n# comment\nBROKEN='\n",
}
BASE = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nsimon:x:1000:1000::/home/simon:/bin/bash\n",
    "etc/group": "root:x:0:\nvideo:x:44:\nrender:x:105:\nsimon:x:1000:\nbroken\n",
    "proc/cmdline": "BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet\n",
    "usr/lib/x86_64-linux-gnu/libOpenCL.so.1": "",
}
LOADED = {"proc/modules": "amdgpu 1234 1 - Live 0x0\ndrm 99 1 amdgpu, Live 0x0\n"}
NODE = {"dev/dri/renderD128": "", "dev/dri/card0": ""}
RUSTICL = {"etc/OpenCL/vendors/rusticl.icd": "libRusticlOpenCL.so.1\n"}
MESA = {"etc/OpenCL/vendors/mesa.icd": "libMesaOpenCL.so.1\n"}
POCL = {"etc/OpenCL/vendors/pocl.icd": "libpocl.so.2.10.0\n"}
ROCM = {
    "etc/OpenCL/vendors/amdocl64.icd": "/opt/rocm-6.3.0/lib/libamdocl64.so\n",
    "opt/rocm-6.3.0/bin/rocminfo": "",
}
ON = {"RUSTICL_ENABLE": "radeonsi"}


def card(
    device: str = "67df", *, vendor: str = "1002", gib: int = 8, driver: str | None = "amdgpu"
) -> dict[str, str]:
    folder = "sys/bus/pci/devices/0000:01:00.0"
    files = {
        f"{folder}/class": "0x030000\n",
        f"{folder}/vendor": f"0x{vendor}\n",
        f"{folder}/device": f"0x{device}\n",
        f"{folder}/revision": "0xe7\n",
        f"{folder}/mem_info_vram_total": f"{gib << 30}\n",
        "sys/bus/pci/devices/0000:00:1f.2/class": "0x010601\n",
    }
    if driver:
        files[f"{folder}/driver"] = f"->../../../../bus/pci/drivers/{driver}"
    return files


def dpkg(version: str) -> dict[str, str]:
    return {
        "var/lib/dpkg/status": "Package: mesa-common-dev\nStatus: install ok installed\n"
        "Version: 1.0-1\n\nPackage: mesa-opencl-icd\nStatus: install ok installed\n"
        f"Maintainer: Debian X\nVersion: {version}\n"
    }


@dataclass
class Case:
    """One machine, and what the doctor must say of it: (id, command), worst first."""

    files: Mapping[str, str]
    expected: list[tuple[str, str | None]]
    drivers: tuple[Driver, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: ON)
    groups: tuple[int, ...] = (VIDEO, RENDER)
    node_mode: int = 0o660


HEALTHY = {**BASE, **LOADED, **NODE, **RUSTICL, **card()}
ONLY_PROCESSOR = ("only-processor", None)
READY = ("ready", None)
INSTALL = "sudo apt-get install mesa-opencl-icd"
BACKPORT = "sudo apt-get install -t bookworm-backports mesa-opencl-icd"
WHEEL = 'pip install "rekindle[pocl]"'

CASES = {
    "healthy, Debian 13": Case(
        {**HEALTHY, "etc/os-release": OS["debian13"]},
        [("mesa-without-fp16", None), READY],
        (rusticl(facts()), pocl()),
    ),
    "healthy, Arch": Case(
        {**HEALTHY, "etc/os-release": OS["arch"]},
        [READY],
        (rusticl(facts(driver_version="26.1.0", extensions="cl_khr_fp16")),),
    ),
    "healthy, AMD's own driver": Case(
        {**HEALTHY, "etc/os-release": OS["ubuntu"]}, [READY], (amd(windows_rx580()),), {}
    ),
    "nothing installed": Case(
        {**BASE, **LOADED, **NODE, **card(), "etc/os-release": OS["debian13"]},
        [("no-opencl-driver", INSTALL), ("no-device", WHEEL)],
    ),
    "nothing installed but PoCL's wheel, Ubuntu": Case(
        {**BASE, **LOADED, **NODE, **card(), "etc/os-release": OS["ubuntu"]},
        [("no-opencl-driver", INSTALL), ONLY_PROCESSOR, READY],
        (pocl(),),
    ),
    "PoCL and Clover are no drivers for the card": Case(
        {**BASE, **LOADED, **NODE, **MESA, **POCL, **card(), "etc/os-release": OS["fedora"]},
        [
            ("no-opencl-driver", "sudo dnf install mesa-libOpenCL"),
            ONLY_PROCESSOR,
            READY,
        ],
        (clover(facts(), mesa="21.2.6"), pocl()),
    ),
    "Rusticl switched off": Case(
        {**HEALTHY, "etc/os-release": OS["debian13"], **dpkg("25.0.7-2")},
        [("rusticl-not-enabled", "export RUSTICL_ENABLE=radeonsi"), ONLY_PROCESSOR, READY],
        (rusticl(), pocl()),
        {},
    ),
    "Rusticl on for another driver": Case(
        {**HEALTHY, "etc/os-release": OS["arch"]},
        [("rusticl-not-enabled", "export RUSTICL_ENABLE=radeonsi,llvmpipe"), ONLY_PROCESSOR, READY],
        (rusticl(llvmpipe(driver_version="25.3.5")),),
        {"RUSTICL_ENABLE": "llvmpipe"},
    ),
    "Rusticl on for one card of several": Case(
        {**HEALTHY, "etc/os-release": OS["arch"]},
        [ONLY_PROCESSOR, READY],
        (rusticl(), pocl()),
        {"RUSTICL_ENABLE": "radeonsi:1"},
    ),
    "not in the groups": Case(
        {**HEALTHY, "etc/os-release": OS["ubuntu"]},
        [("no-permission", 'sudo usermod -aG render,video "$USER"'), ONLY_PROCESSOR, READY],
        (rusticl(), pocl()),
        groups=(),
    ),
    "in video but not in render": Case(
        {**HEALTHY, "etc/os-release": OS["debian13"]},
        [("no-permission", 'sudo usermod -aG render "$USER"'), ONLY_PROCESSOR, READY],
        (rusticl(), pocl()),
        groups=(VIDEO,),
    ),
    "an old system without a render group": Case(
        {**HEALTHY, "etc/os-release": OS["debian13"], "etc/group": "video:x:44:\n"},
        [("no-permission", 'sudo usermod -aG video "$USER"'), ONLY_PROCESSOR, READY],
        (rusticl(), pocl()),
        groups=(),
    ),
    "added to the groups, not logged in again": Case(
        {
            **HEALTHY,
            "etc/os-release": OS["debian13"],
            "etc/group": "video:x:44:anna,simon\nrender:x:105:simon\n",
        },
        [("groups-not-active", "newgrp render"), ONLY_PROCESSOR, READY],
        (rusticl(), pocl()),
        groups=(),
    ),
    "the node is open to all, as on Fedora": Case(
        {**HEALTHY, "etc/os-release": OS["fedora"]},
        [ONLY_PROCESSOR, READY],
        (rusticl(), pocl()),
        groups=(),
        node_mode=0o666,
    ),
    "no group, but the seat's user may use it": Case(
        {**HEALTHY, "etc/os-release": OS["arch"]},
        [READY],
        (rusticl(facts(driver_version="25.3.5")),),
        groups=(),
    ),
    "amdgpu not loaded": Case(
        {**BASE, **RUSTICL, **card(driver=None), "etc/os-release": OS["debian13"]},
        [("amdgpu-not-loaded", "sudo modprobe amdgpu"), ONLY_PROCESSOR, READY],
        (rusticl(), pocl()),
    ),
    "amdgpu built into the kernel": Case(
        {
            **{k: v for k, v in HEALTHY.items() if k != "proc/modules"},
            "sys/module/amdgpu/": "",
            "etc/os-release": OS["arch"],
        },
        [READY],
        (rusticl(facts(driver_version="26.0.0", extensions="cl_khr_fp16")),),
    ),
    "nomodeset": Case(
        {
            **BASE,
            **RUSTICL,
            **card(driver=None),
            "proc/cmdline": "quiet nomodeset\n",
            "etc/os-release": OS["debian13"],
        },
        [("nomodeset", None), ONLY_PROCESSOR, READY],
        (rusticl(), pocl()),
    ),
    "a Tahiti held by radeon": Case(
        {
            **BASE,
            **RUSTICL,
            **NODE,
            **card("6798", driver="radeon", gib=3),
            "etc/os-release": OS["debian13"],
        },
        [("radeon-driver", None), ONLY_PROCESSOR, ("small-memory", None), READY],
        (rusticl(), pocl()),
    ),
    "a container without the device files": Case(
        {**BASE, **LOADED, **RUSTICL, **card(), ".dockerenv": "", "etc/os-release": OS["debian13"]},
        [
            (
                "no-render-node",
                "docker run --device /dev/dri --group-add video --group-add render ...",
            ),
            ONLY_PROCESSOR,
            READY,
        ],
        (rusticl(), pocl()),
    ),
    "amdgpu failed to start": Case(
        {**BASE, **LOADED, **RUSTICL, **card(), "etc/os-release": OS["debian13"]},
        [("no-render-node", "sudo dmesg | grep -i amdgpu"), ONLY_PROCESSOR, READY],
        (rusticl(), pocl()),
    ),
    "Debian 12: old Mesa, empty Clover in front": Case(
        {**HEALTHY, **MESA, "etc/os-release": OS["debian12"]},
        [
            ("old-mesa", BACKPORT),
            ONLY_PROCESSOR,
            (
                "empty-clover",
                "sudo mv /etc/OpenCL/vendors/mesa.icd /etc/OpenCL/vendors/mesa.icd.off",
            ),
            READY,
        ],
        (clover(), rusticl(), pocl("3.0-rc2")),
    ),
    "Debian 12: switched off and too old, told once": Case(
        {**HEALTHY, **dpkg("22.3.6-1+deb12u2"), "etc/os-release": OS["debian12"]},
        [("old-mesa", BACKPORT), ONLY_PROCESSOR, READY],
        (rusticl(), pocl()),
        {},
    ),
    "Debian 12: nothing installed": Case(
        {**BASE, **LOADED, **NODE, **card(), "etc/os-release": OS["debian12"]},
        [("no-opencl-driver", BACKPORT), ONLY_PROCESSOR, READY],
        (pocl(),),
    ),
    "Mint with an old Mesa": Case(
        {**HEALTHY, **dpkg("1:22.2.5-0ubuntu0.1"), "etc/os-release": OS["mint"]},
        [
            ("old-mesa", "sudo apt-get update && sudo apt-get install mesa-opencl-icd"),
            ONLY_PROCESSOR,
            READY,
        ],
        (rusticl(), pocl()),
    ),
    "Arch, Mesa's version from pacman": Case(
        {
            **HEALTHY,
            "etc/os-release": OS["arch"],
            "var/lib/pacman/local/opencl-rusticl-mesa-1:22.3.1-1/desc": "",
        },
        [("old-mesa", "sudo pacman -Syu"), ONLY_PROCESSOR, READY],
        (rusticl(), pocl()),
    ),
    "ROCm alone": Case(
        {**BASE, **LOADED, **NODE, **ROCM, **card(), "etc/os-release": OS["ubuntu"]},
        [("rocm-dropped-card", INSTALL), ONLY_PROCESSOR, READY],
        (amd(), pocl()),
    ),
    "ROCm, and Rusticl switched off": Case(
        {**HEALTHY, **ROCM, "etc/os-release": OS["ubuntu"]},
        [
            ("rusticl-not-enabled", "export RUSTICL_ENABLE=radeonsi"),
            ("rocm-dropped-card", None),
            ONLY_PROCESSOR,
            READY,
        ],
        (amd(), rusticl(), pocl()),
        {},
    ),
    "ROCm beside a Rusticl that works": Case(
        {**HEALTHY, **ROCM, "etc/os-release": OS["fedora"]},
        [("rocm-dropped-card", None), READY],
        (amd(), rusticl(facts(driver_version="25.2.0", extensions="cl_khr_fp16"))),
    ),
    "ROCm with a card it knows": Case(
        {**HEALTHY, **ROCM, **card("73bf", gib=16), "etc/os-release": OS["ubuntu"]},
        [READY],
        (amd(facts(name="gfx1030", max_compute_units=72, global_mem_size=16 << 30)),),
    ),
    "a card of 4 GiB": Case(
        {**HEALTHY, **card(gib=4), "etc/os-release": OS["arch"]},
        [("small-memory", None), READY],
        (rusticl(facts(driver_version="26.1.0", extensions="cl_khr_fp16")),),
    ),
    "PoCL only, Intel graphics": Case(
        {
            **BASE,
            **POCL,
            **card("3e92", vendor="8086", driver="i915"),
            "etc/os-release": OS["mint"],
        },
        [ONLY_PROCESSOR, ("no-amd-gpu", None), READY],
        (pocl(),),
        {},
    ),
    "a server without graphics": Case(
        {**BASE, **POCL, "etc/os-release": OS["debian13"]},
        [("no-amd-gpu", None), READY],
        (pocl(),),
        {},
    ),
    "a server without anything": Case(
        {"etc/os-release": OS["debian13"]}, [("no-device", WHEEL), ("no-amd-gpu", None)], (), {}
    ),
    "drivers without a loader": Case(
        {
            **{k: v for k, v in HEALTHY.items() if "libOpenCL" not in k},
            "etc/os-release": OS["debian13"],
        },
        [("no-loader", "sudo apt-get install ocl-icd-libopencl1"), ("no-device", WHEEL)],
    ),
    "the loader is sent elsewhere": Case(
        {**HEALTHY, "etc/os-release": OS["debian13"]},
        [("vendors-override", "unset OCL_ICD_VENDORS"), ("no-device", WHEEL)],
        environment={**ON, "OCL_ICD_VENDORS": "/opt/none"},
    ),
    "the loader is sent to PoCL's file": Case(
        {**HEALTHY, **POCL, "etc/os-release": OS["debian13"]},
        [("vendors-override", "unset OCL_ICD_VENDORS"), ONLY_PROCESSOR, READY],
        (pocl(),),
        {**ON, "OCL_ICD_VENDORS": "/etc/OpenCL/vendors/pocl.icd"},
    ),
    "a driver that raises": Case(
        {**HEALTHY, "etc/os-release": OS["arch"]},
        [("broken-platform", None), READY],
        (
            Driver("NVIDIA CUDA", "OpenCL 3.0", "NVIDIA", RuntimeError("OUT_OF_HOST_MEMORY")),
            rusticl(facts(driver_version="26.1.0", extensions="cl_khr_fp16")),
        ),
    ),
}


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
