"""Recorded systems: their files, environment, user and OpenCL, and what the doctor must say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from recorded_devices import Driver, amd, clover, facts, llvmpipe, pocl, rusticl, windows_rx580

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
    "usr/bin/ld": "",
    "usr/lib/gcc/x86_64-linux-gnu/12/libgcc.a": "",
    "usr/lib/x86_64-linux-gnu/libc.so": "",
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
    "PoCL's wheel without a linker": Case(
        {k: v for k, v in BASE.items() if not k.endswith("libgcc.a")},
        [("no-linker", "pip install ziglang"), ("no-amd-gpu", None), READY],
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
