"""Says what is wrong with the OpenCL set-up and the exact command that mends it.

Each rule is one function from a `System` to its findings; the lists at the end are the rules. A
rule that accuses a driver keeps quiet when a graphics device works: what works is not broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from rekindle.device.distribution import Advice
from rekindle.device.selection import by_capability
from rekindle.device.system import System, current_system

Severity = Literal["error", "warning", "info", "ok"]
_ORDER: tuple[Severity, ...] = ("error", "warning", "info", "ok")
_MESA_RADEONSI = (23, 1)
_MESA_FP16 = (25, 2)
_ROCM_DROPPED = ("gfx6", "gfx7", "gfx8")
_SMALL_MEMORY_BYTES = 6 << 30
_OLD_GCN = ("tahiti", "hawaii")
_AMD_DRIVERS = "https://www.amd.com/en/support"


@dataclass(frozen=True)
class Finding:
    """One thing the doctor has to say."""

    id: str
    severity: Severity
    title: str
    detail: str = ""
    command: str | None = None
    """What to type; None where no command mends it: then `detail` says what to do."""


Rule = Callable[[System], Iterator[Finding]]


def diagnose() -> tuple[Finding, ...]:
    """Findings for this machine, worst first."""
    return examine(current_system())


def examine(system: System) -> tuple[Finding, ...]:
    """Findings for `system`, worst first; within a severity in the order of the rules."""
    rules = (WINDOWS if system.os_name == "nt" else LINUX) + ANYWHERE
    found = [finding for rule in rules for finding in rule(system)]
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity)))


def _kernel_driver(system: System) -> Iterator[Finding]:
    if not system.amd_gpus or "amdgpu" in system.modules:
        return
    gpu = system.amd_gpus[0]
    if "nomodeset" in system.boot_options:
        yield Finding(
            "nomodeset",
            "error",
            "The kernel was told to leave graphics cards alone",
            "`nomodeset` is among the boot options. Remove it from GRUB_CMDLINE_LINUX_DEFAULT in "
            "/etc/default/grub, run `sudo update-grub` and restart.",
        )
    elif gpu.driver == "radeon" or (gpu.chip and gpu.chip.name in _OLD_GCN):
        yield Finding(
            "radeon-driver",
            "error",
            f"The card {gpu} is held by the old `radeon` kernel driver",
            "Add `radeon.si_support=0 amdgpu.si_support=1 radeon.cik_support=0 "
            "amdgpu.cik_support=1` to the boot options and restart.",
        )
    else:
        yield Finding(
            "amdgpu-not-loaded",
            "error",
            f"The kernel driver for the card {gpu} is not loaded",
            "Without `amdgpu` no OpenCL driver can reach the card.",
            "sudo modprobe amdgpu",
        )


def _render_node(system: System) -> Iterator[Finding]:
    if not system.amd_gpus or system.render_nodes or "amdgpu" not in system.modules:
        return
    if system.in_container:
        yield Finding(
            "no-render-node",
            "error",
            "The container does not see the card: /dev/dri is missing",
            "Start it with the card's device files.",
            "docker run --device /dev/dri --group-add video --group-add render ...",
        )
    else:
        yield Finding(
            "no-render-node",
            "error",
            "`amdgpu` is loaded but /dev/dri has no render node",
            "The driver failed while it started; the kernel's log says why.",
            "sudo dmesg | grep -i amdgpu",
        )


def _permission(system: System) -> Iterator[Finding]:
    if system.uid == 0 or not system.amd_gpus or not system.render_nodes or system.working_gpus:
        return
    if any(system.render_nodes.values()):
        return
    owner = "render" if "render" in system.groups else "video"
    if owner not in system.groups or system.groups[owner].gid in system.gids:
        return
    if system.user in system.groups[owner].members:
        yield Finding(
            "groups-not-active",
            "error",
            f"You were added to the group {owner}, but this login does not know it yet",
            "Log out and in again; or, for one shell:",
            f"newgrp {owner}",
        )
        return
    missing = [
        name
        for name in ("render", "video")
        if name in system.groups and system.groups[name].gid not in system.gids
    ]
    yield Finding(
        "no-permission",
        "error",
        f"You may not use the card: its device files belong to the group {owner}",
        "Log out and in afterwards.",
        f'sudo usermod -aG {",".join(missing)} "$USER"',
    )


def _vendors_override(system: System) -> Iterator[Finding]:
    override = system.environment.get("OCL_ICD_VENDORS")
    if not override or system.working_gpus:
        return
    hides_card = system.amd_gpus and not _serves_amd(system)
    if hides_card or not (system.icds or system.platforms):
        yield Finding(
            "vendors-override",
            "error",
            f"OCL_ICD_VENDORS={override} names a place without "
            + ("a driver for the card" if hides_card else "OpenCL drivers"),
            "While it is set, the loader looks nowhere else.",
            "unset OCL_ICD_VENDORS",
        )


def _no_driver(system: System) -> Iterator[Finding]:
    if not system.amd_gpus or system.working_gpus or _serves_amd(system):
        return
    if not system.environment.get("OCL_ICD_VENDORS"):
        yield _advised(
            "no-opencl-driver",
            "error",
            f"No OpenCL driver for the card {system.amd_gpus[0]} is installed",
            "Mesa's Rusticl is the one that serves it.",
            system.distribution.install("mesa-opencl"),
        )


def _serves_amd(system: System) -> bool:
    return any(system.icd_of(library) for library in ("Rusticl", "amdocl"))


def _no_loader(system: System) -> Iterator[Finding]:
    if system.icds and not system.has_loader and not system.platforms:
        yield _advised(
            "no-loader",
            "error",
            "OpenCL drivers are installed, but not the loader that finds them (libOpenCL.so.1)",
            "",
            system.distribution.install("loader"),
        )


def _rusticl_disabled(system: System) -> Iterator[Finding]:
    if not system.amd_gpus or system.working_gpus or not system.icd_of("Rusticl"):
        return
    value = system.environment.get("RUSTICL_ENABLE", "")
    drivers = [part.partition(":")[0].strip() for part in value.split(",") if part.strip()]
    if "radeonsi" in drivers or (system.mesa and system.mesa < _MESA_RADEONSI):
        return
    wanted = ",".join(["radeonsi", *(part.strip() for part in value.split(",") if part.strip())])
    yield Finding(
        "rusticl-not-enabled",
        "error",
        "Mesa's Rusticl is installed but switched off for Radeon cards",
        (f"RUSTICL_ENABLE is {value!r}. " if value else "RUSTICL_ENABLE is not set. ")
        + f"To keep it, put RUSTICL_ENABLE={wanted} into ~/.config/environment.d/rusticl.conf "
        "and log in again.",
        f"export RUSTICL_ENABLE={wanted}",
    )


def _old_mesa(system: System) -> Iterator[Finding]:
    if system.mesa is None or not system.icd_of("Rusticl"):
        return
    version = ".".join(map(str, system.mesa))
    if system.mesa < _MESA_RADEONSI and system.amd_gpus and not system.working_gpus:
        yield _advised(
            "old-mesa",
            "error",
            f"Mesa {version} is too old: Rusticl serves Radeon cards from 23.1 on",
            "",
            system.distribution.upgrade_mesa(),
        )
    elif system.mesa < _MESA_FP16 and any(
        d.platform_name == "rusticl" and not d.fp16 for d in system.working_gpus
    ):
        yield Finding(
            "mesa-without-fp16",
            "info",
            f"Mesa {version} has no half-precision arithmetic (from 25.2 on)",
            "Nothing to do: weights are stored in half precision all the same.",
        )


def _rocm(system: System) -> Iterator[Finding]:
    dropped = [
        gpu
        for gpu in system.amd_gpus
        if gpu.chip and any(gfx.startswith(_ROCM_DROPPED) for gfx in gpu.chip.gfx)
    ]
    if system.has_rocm and dropped:
        advice = Advice(None, "Nothing to do: another driver serves it.")
        if not system.working_gpus:
            advice = Advice(None, "Use Mesa's Rusticl; the other findings say how.")
            if not system.icd_of("Rusticl"):
                advice = system.distribution.install("mesa-opencl")
        yield _advised(
            "rocm-dropped-card",
            "info" if system.working_gpus else "warning",
            f"ROCm is installed, but no longer supports the card {dropped[0]}",
            "",
            advice,
        )


def _empty_clover(system: System) -> Iterator[Finding]:
    for place, platform in enumerate(system.platforms):
        if platform.name == "Clover" and not platform.devices:
            icd = system.icd_of("MesaOpenCL")
            yield Finding(
                "empty-clover",
                "info",
                "Mesa's old Clover stands "
                + ("in front" if place == 0 else "among the platforms")
                + " without a device",
                "Rekindle chooses by capability, so it does no harm here; programs that take the "
                "first platform fail over it.",
                f"sudo mv {icd.path} {icd.path}.off" if icd else None,
            )


def _broken_platform(system: System) -> Iterator[Finding]:
    for platform in system.platforms:
        if platform.problem:
            yield Finding(
                "broken-platform",
                "warning",
                f"The OpenCL platform {platform.name or 'without a name'} fails when asked",
                f"It says: {platform.problem}. Reinstall or remove that driver.",
            )


def _small_memory(system: System) -> Iterator[Finding]:
    for gpu in system.amd_gpus:
        if gpu.vram_bytes is not None and gpu.vram_bytes < _SMALL_MEMORY_BYTES:
            yield Finding(
                "small-memory",
                "info",
                f"The card {gpu} has {gpu.vram_bytes / (1 << 30):.0f} GiB of memory",
                "Models are measured against it before they are loaded; half-precision weights "
                "halve what they need.",
            )


def _windows_driver(system: System) -> Iterator[Finding]:
    if system.amd_gpus and not system.working_gpus:
        yield Finding(
            "amd-driver-without-opencl",
            "error",
            f"AMD's OpenCL is missing for the card {system.amd_gpus[0]}",
            "The driver that Windows Update installs may come without it. Install AMD's own "
            f"driver for the card: {_AMD_DRIVERS}",
        )


def _no_amd_gpu(system: System) -> Iterator[Finding]:
    if system.amd_gpus:
        return
    others = ", ".join(map(str, system.gpus))
    yield Finding(
        "no-amd-gpu",
        "info",
        "No AMD graphics card on the PCI bus",
        f"There is: {others}." if others else "There is no graphics card at all.",
    )


def _only_processor(system: System) -> Iterator[Finding]:
    if system.working_gpus:
        return
    if not any(d.unusable is None for d in system.devices):
        linux = system.os_name == "posix"
        yield Finding(
            "no-device",
            "error",
            "OpenCL offers no usable device",
            "Models run with ONNX Runtime on the processor."
            + (" PoCL, from its wheel, makes the processor an OpenCL device:" if linux else ""),
            'pip install "rekindle[pocl]"' if linux else None,
        )
    elif system.gpus:
        yield Finding(
            "only-processor",
            "warning",
            "There is a graphics card, but OpenCL shows only the processor",
            "Models run, slowly. The other findings say what keeps the card away; `clinfo` shows "
            "what the drivers answer.",
        )


def _no_linker(system: System) -> Iterator[Finding]:
    if (
        system.has_linker
        or system.working_gpus
        or not any(d.family == "cpu" for d in system.devices)
    ):
        return
    yield Finding(
        "no-linker",
        "error",
        "PoCL finds no linker",
        "It links every kernel: gcc and the C library's headers bring one, or a wheel:",
        "pip install ziglang",
    )


def _ready(system: System) -> Iterator[Finding]:
    usable = [device for device in by_capability(system.devices) if device.unusable is None]
    if usable:
        best = usable[0]
        yield Finding(
            "ready",
            "ok",
            f"Rekindle runs on {best}",
            f"Driver {best.driver}, {best.compute_units} compute units, "
            f"{best.global_bytes / (1 << 30):.1f} GiB.",
        )


def _advised(id: str, severity: Severity, title: str, detail: str, advice: Advice) -> Finding:  # noqa: A002
    whole = " ".join(part for part in (detail, advice.sentence) if part)
    return Finding(id, severity, title, whole, advice.command)


LINUX: tuple[Rule, ...] = (
    _kernel_driver,
    _render_node,
    _permission,
    _vendors_override,
    _no_driver,
    _no_loader,
    _old_mesa,
    _rusticl_disabled,
    _rocm,
    _no_amd_gpu,
    _empty_clover,
    _small_memory,
    _no_linker,
)
WINDOWS: tuple[Rule, ...] = (_windows_driver,)
ANYWHERE: tuple[Rule, ...] = (_broken_platform, _only_processor, _ready)
