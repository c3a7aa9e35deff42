"""A snapshot of what decides whether OpenCL works here: files under a root, environment, user.

The root, the environment, the user and the OpenCL platforms are all parameters, so that the
doctor's rules run on recorded systems.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rekindle import _config
from rekindle.device.architectures import Chip, chip_of_pci
from rekindle.device.capability import Device, Platform
from rekindle.device.discovery import list_platforms
from rekindle.device.distribution import Distribution, read_distribution
from rekindle.device.pocl_linker import has_system_linker, zig_program

_AMD = "1002"
_DISPLAY_CLASS = "0x03"
_LOADERS = (
    "usr/lib/libOpenCL.so*",
    "usr/lib64/libOpenCL.so*",
    "usr/lib/*-linux-gnu/libOpenCL.so*",
    "usr/local/lib/libOpenCL.so*",
    "lib/*-linux-gnu/libOpenCL.so*",
    "run/opengl-driver/lib/libOpenCL.so*",
)
_VENDORS = ("etc/OpenCL/vendors", "run/opengl-driver/etc/OpenCL/vendors")


@dataclass(frozen=True)
class PciGpu:
    """A display device on the PCI bus; ids in lower-case hex without 0x."""

    address: str
    vendor: str
    device: str
    revision: str = ""
    driver: str | None = None
    """The kernel driver that holds it."""
    vram_bytes: int | None = None

    @property
    def is_amd(self) -> bool:
        return self.vendor == _AMD

    @property
    def chip(self) -> Chip | None:
        return chip_of_pci(self.vendor, self.device)

    def __str__(self) -> str:
        chip = f" ({self.chip.name})" if self.chip else ""
        return f"{self.vendor}:{self.device}{chip}"


@dataclass(frozen=True)
class Icd:
    """An OpenCL driver as the loader finds it: a text file that names a library."""

    path: str
    library: str


@dataclass(frozen=True)
class Group:
    """One line of /etc/group."""

    gid: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class System:
    """Everything the rules look at. Absent facts are empty, not guessed."""

    os_name: str = "posix"
    distribution: Distribution = field(default_factory=Distribution)
    environment: Mapping[str, str] = field(default_factory=dict)
    uid: int = 0
    gids: frozenset[int] = frozenset()
    user: str = ""
    groups: Mapping[str, Group] = field(default_factory=dict)
    icds: tuple[Icd, ...] = ()
    has_loader: bool = False
    gpus: tuple[PciGpu, ...] = ()
    modules: frozenset[str] = frozenset()
    boot_options: tuple[str, ...] = ()
    render_nodes: Mapping[str, bool] = field(default_factory=dict)
    """/dev/dri's render nodes; True: anybody may use it."""
    in_container: bool = False
    mesa: tuple[int, ...] | None = None
    has_rocm: bool = False
    platforms: tuple[Platform, ...] = ()
    has_linker: bool = True
    """PoCL links each kernel; GPU drivers need none."""

    @property
    def amd_gpus(self) -> tuple[PciGpu, ...]:
        return tuple(gpu for gpu in self.gpus if gpu.is_amd)

    @property
    def devices(self) -> tuple[Device, ...]:
        return tuple(device for platform in self.platforms for device in platform.devices)

    @property
    def working_gpus(self) -> tuple[Device, ...]:
        """Graphics devices that OpenCL shows and that Rekindle would choose."""
        return tuple(d for d in self.devices if not d.is_host_cpu and d.unusable is None)

    def icd_of(self, library: str) -> Icd | None:
        """The driver whose library's name holds `library` ("Rusticl")."""
        return next((icd for icd in self.icds if library in icd.library), None)


def current_system() -> System:
    """The machine this runs on. On Windows only OpenCL itself is asked."""
    platforms = list_platforms()
    if os.name == "nt":
        return System(os_name="nt", environment=_config.environment(), platforms=platforms)
    system = read_system(
        Path("/"),
        _config.environment(),
        platforms,
        uid=os.getuid(),
        gids=[os.getgid(), *os.getgroups()],
    )
    return replace(system, has_linker=system.has_linker or zig_program() is not None)


def read_system(
    root: Path,
    environment: Mapping[str, str],
    platforms: Sequence[Platform],
    *,
    uid: int,
    gids: Iterable[int],
) -> System:
    """The Linux system whose files lie under `root`; whatever cannot be read counts as absent."""
    return System(
        distribution=read_distribution(root),
        environment=dict(environment),
        uid=uid,
        gids=frozenset(gids),
        user=_user(root, uid),
        groups=_groups(root),
        icds=_icds(root, environment.get("OCL_ICD_VENDORS")),
        has_loader=any(True for pattern in _LOADERS for _ in root.glob(pattern)),
        gpus=_gpus(root / "sys/bus/pci/devices"),
        modules=_modules(root),
        boot_options=tuple(_text(root / "proc/cmdline").split()),
        render_nodes={
            path.name: _open_to_all(path)
            for path in _listed(root / "dev/dri")
            if path.name.startswith("renderD")
        },
        in_container=any((root / name).exists() for name in (".dockerenv", "run/.containerenv")),
        mesa=_mesa(root, platforms),
        has_rocm=any(root.glob("opt/rocm*")) or (root / "usr/bin/rocminfo").exists(),
        platforms=tuple(platforms),
        has_linker=has_system_linker(root),
    )


def windows_gpus(hardware_ids: Iterable[str]) -> tuple[PciGpu, ...]:
    r"""Cards from Windows' hardware ids (`PCI\VEN_1002&DEV_67DF&SUBSYS_...&REV_E7`)."""
    found = (
        re.search(
            r"VEN_([0-9a-f]{4})&DEV_([0-9a-f]{4})(?:.*REV_([0-9a-f]{2}))?", text.lower(), re.I
        )
        for text in hardware_ids
    )
    return tuple(PciGpu("", m[1], m[2], m[3] or "") for m in found if m)


def _user(root: Path, uid: int) -> str:
    for line in _text(root / "etc/passwd").splitlines():
        parts = line.split(":")
        if len(parts) > 2 and parts[2] == str(uid):
            return parts[0]
    return ""


def _groups(root: Path) -> dict[str, Group]:
    found = {}
    for line in _text(root / "etc/group").splitlines():
        parts = line.split(":")
        if len(parts) == 4 and parts[2].isdecimal():
            members = tuple(name for name in parts[3].split(",") if name)
            found[parts[0]] = Group(int(parts[2]), members)
    return found


def _icds(root: Path, override: str | None) -> tuple[Icd, ...]:
    """The loader's list; OCL_ICD_VENDORS names another folder, or one file."""
    paths: list[Path] = []
    for folder in (override.lstrip("/"),) if override else _VENDORS:
        place = root / folder
        paths += [place] if place.is_file() else sorted(_listed(place))
    return tuple(
        Icd("/" + path.relative_to(root).as_posix(), _text(path).strip())
        for path in paths
        if path.suffix == ".icd"
    )


def _gpus(folder: Path) -> tuple[PciGpu, ...]:
    found = []
    for path in sorted(_listed(folder)):
        if not _text(path / "class").startswith(_DISPLAY_CLASS):
            continue
        vram = _text(path / "mem_info_vram_total").strip()
        driver = path / "driver"
        found.append(
            PciGpu(
                address=path.name,
                vendor=_hex(path / "vendor"),
                device=_hex(path / "device"),
                revision=_hex(path / "revision"),
                driver=driver.readlink().name if driver.is_symlink() else None,
                vram_bytes=int(vram) if vram.isdecimal() else None,
            )
        )
    return tuple(found)


def _modules(root: Path) -> frozenset[str]:
    """Loaded modules, and those built into the kernel that sysfs shows."""
    loaded = {line.split()[0] for line in _text(root / "proc/modules").splitlines() if line}
    return frozenset(loaded | {path.name for path in _listed(root / "sys/module")})


def _open_to_all(path: Path) -> bool:
    try:
        return path.stat().st_mode & 0o006 == 0o006
    except OSError:
        return False


def _mesa(root: Path, platforms: Sequence[Platform]) -> tuple[int, ...] | None:
    """Mesa's version: from a platform that tells it, else from dpkg or pacman."""
    for platform in platforms:
        if platform.name == "Clover" and (found := re.search(r"Mesa (\d[\d.]*)", platform.version)):
            return _version(found[1])
        if platform.name == "rusticl" and platform.devices:
            return _version(platform.devices[0].driver)
    for paragraph in _text(root / "var/lib/dpkg/status").split("\n\n"):
        if paragraph.startswith("Package: mesa-opencl-icd\n") and "ok installed" in paragraph:
            found = re.search(r"^Version: (?:\d+:)?(\S+)", paragraph, re.MULTILINE)
            return _version(found[1]) if found else None
    for path in _listed(root / "var/lib/pacman/local"):
        if found := re.fullmatch(r"opencl-(?:rusticl-)?mesa-(?:\d+:)?(\d[\d.]*)-.*", path.name):
            return _version(found[1])
    return None


def _version(text: str) -> tuple[int, ...] | None:
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else None


def _hex(path: Path) -> str:
    return _text(path).strip().lower().removeprefix("0x")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
