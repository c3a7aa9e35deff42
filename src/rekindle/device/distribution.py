"""Which Linux distribution this is, and its own command for what the doctor prescribes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Package = Literal["mesa-opencl", "loader"]
BACKPORTS = "Backports must be on: https://backports.debian.org/Instructions/"

_INSTALL: dict[str, tuple[str, dict[Package, str]]] = {
    "debian": (
        "sudo apt-get install",
        {"mesa-opencl": "mesa-opencl-icd", "loader": "ocl-icd-libopencl1"},
    ),
    "fedora": ("sudo dnf install", {"mesa-opencl": "mesa-libOpenCL", "loader": "mesa-libOpenCL"}),
    "arch": ("sudo pacman -S", {"mesa-opencl": "opencl-mesa", "loader": "ocl-icd"}),
    "suse": (
        "sudo zypper install",
        {"mesa-opencl": "Mesa-libRusticlOpenCL", "loader": "libOpenCL1"},
    ),
    "alpine": ("doas apk add", {"mesa-opencl": "mesa-rusticl", "loader": "opencl-icd-loader"}),
}
_UPGRADE = {
    "debian": "sudo apt-get update && sudo apt-get install mesa-opencl-icd",
    "fedora": "sudo dnf upgrade --refresh",
    "arch": "sudo pacman -Syu",
    "suse": "sudo zypper dup",
    "alpine": "doas apk upgrade",
}
_BOOKWORM = "sudo apt-get install -t bookworm-backports mesa-opencl-icd"
_NIXOS = "Add `mesa.opencl` to `hardware.graphics.extraPackages` in configuration.nix and rebuild."
_SENTENCE: dict[Package, str] = {
    "mesa-opencl": "Install Mesa's OpenCL driver (Rusticl) with the package manager.",
    "loader": "Install an OpenCL ICD loader (libOpenCL.so.1) with the package manager.",
}


@dataclass(frozen=True)
class Advice:
    """What to type, or, where no command fits the distribution, what to do; never both empty."""

    command: str | None
    sentence: str = ""


@dataclass(frozen=True)
class Distribution:
    """From /etc/os-release; all empty where there is none."""

    id: str = ""
    like: tuple[str, ...] = ()
    version: str = ""

    @property
    def family(self) -> str | None:
        """The distribution whose package manager it uses, if that is known."""
        for name in (self.id, *self.like):
            if name in _INSTALL:
                return name
            if name.startswith("opensuse"):
                return "suse"
        return None

    def install(self, package: Package) -> Advice:
        if self._is_bookworm and package == "mesa-opencl":
            return Advice(_BOOKWORM, BACKPORTS)
        if self.id == "nixos":
            return Advice(None, _NIXOS)
        if self.family is None:
            return Advice(None, _SENTENCE[package])
        command, names = _INSTALL[self.family]
        return Advice(f"{command} {names[package]}")

    def upgrade_mesa(self) -> Advice:
        if self._is_bookworm:
            return Advice(_BOOKWORM, BACKPORTS)
        if self.id == "nixos":
            return Advice(None, "Move to a newer NixOS channel and rebuild.")
        if self.family is None:
            return Advice(None, "Upgrade Mesa with the package manager.")
        return Advice(_UPGRADE[self.family])

    @property
    def _is_bookworm(self) -> bool:
        """Debian 12 stops at Mesa 22.3, too old for Radeon cards; its backports have 25.0."""
        return self.id == "debian" and self.version == "12"


def read_distribution(root: Path) -> Distribution:
    """What /etc/os-release under `root` says (the format is shell-like: NAME="value")."""
    for name in ("etc/os-release", "usr/lib/os-release"):
        try:
            lines = (root / name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        fields = dict(_assignment(line) for line in lines if "=" in line)
        return Distribution(
            id=fields.get("ID", ""),
            like=tuple(fields.get("ID_LIKE", "").split()),
            version=fields.get("VERSION_ID", ""),
        )
    return Distribution()


def _assignment(line: str) -> tuple[str, str]:
    key, _, value = line.partition("=")
    try:
        parts = shlex.split(value)
    except ValueError:  # an unbalanced quote
        parts = [value.strip("\"' ")]
    return key.strip(), parts[0] if parts else ""
