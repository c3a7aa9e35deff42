"""Builds programs from kernel templates, and keeps their binaries.

All specialisations a plan needs that this context has not built yet go into one program: on PoCL
one build of thirty kernels costs a third of thirty builds. The binary is cached on disk under a
key of device, driver, options and source; a cache that cannot be read or written is reported
once and done without.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyopencl as cl

from rekindle import _config
from rekindle._errors import KernelError
from rekindle._files import write_whole
from rekindle._log import debug, warn_once
from rekindle.engine.kernels import Launch
from rekindle.engine.program import (
    OPTIONS,
    Specialisation,
    program_source,
    specialisation,
    suffix,
)

if TYPE_CHECKING:
    from rekindle.engine.walk import WalkProgram

_DIGEST_BYTES = 32


@dataclass
class Compiler:
    """Kernels of one OpenCL context and device; shared by all sessions on it."""

    context: cl.Context
    device: cl.Device
    walks: list[WalkProgram] = field(default_factory=list)
    """Programs that walk through many launches in one."""
    _programs: dict[Specialisation, cl.Program] = field(default_factory=dict)

    def prepare(self, launches: Iterable[Launch]) -> None:
        """Build what `launches` need and this context lacks, as one program.

        KernelError names the kernels that the driver does not compile; the others are built then.
        """
        needed: dict[Specialisation, str] = {}
        for launch in launches:
            needed.setdefault(specialisation(launch), launch.chosen or launch.kernel)
        missing = sorted(spec for spec in needed if spec not in self._programs)
        if not missing:
            return
        try:
            program = self.build(program_source(missing))
        except KernelError as error:
            if broken := self._build_singly(missing):
                names = tuple(dict.fromkeys(needed[spec] for spec in broken))
                raise KernelError(
                    f"{', '.join(names)}: {error.message}", hint=error.hint, kernels=names
                ) from error
        else:
            self._programs.update(dict.fromkeys(missing, program))

    def _build_singly(self, specs: Iterable[Specialisation]) -> list[Specialisation]:
        """Each in a program of its own; those that do not compile."""
        broken = []
        for spec in specs:
            try:
                self._programs[spec] = self.build(program_source([spec]))
            except KernelError:
                broken.append(spec)
        return broken

    def kernel(self, launch: Launch) -> cl.Kernel:
        """A kernel object of its own for this launch, so that its arguments are set once."""
        spec = specialisation(launch)
        return cl.Kernel(self._programs[spec], f"{launch.entry}_{suffix(spec)}")

    def build(self, source: str) -> cl.Program:
        """The program of that text, from the cache where it is there. KernelError if refused."""
        debug(3, "OpenCL program\n%s", source)
        path = self._cache_path(source)
        if binary := _read(path):
            try:
                return cl.Program(self.context, [self.device], [binary]).build()
            except cl.Error as error:
                debug(1, "cached kernel binary %s was refused (%s): building anew", path, error)
        program = cl.Program(self.context, source)
        try:
            # cache_dir=False: pyopencl's own cache would be a second one beside ours.
            program.build(options=list(OPTIONS), devices=[self.device], cache_dir=False)
        except cl.Error as error:
            raise KernelError(
                f"the driver {self.device.driver_version} of {self.device.name} did not compile "
                f"a kernel: {error}",
                hint="run `rekindle doctor`; REKINDLE_DEBUG=3 prints the source",
            ) from error
        self._store(path, program)
        return program

    def _cache_path(self, source: str) -> Path:
        platform = self.device.platform
        identity = (
            platform.name,
            platform.version,
            self.device.name,
            self.device.driver_version,
            *OPTIONS,
            source,
        )
        key = hashlib.sha256("\0".join(identity).encode()).hexdigest()
        return _config.cache_dir() / "kernels" / f"{key[:40]}.bin"

    def _store(self, path: Path, program: cl.Program) -> None:
        try:
            binary: bytes = program.get_info(cl.program_info.BINARIES)[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, hashlib.sha256(binary).digest() + binary)
        except (OSError, cl.Error) as error:
            warn_once(f"kernel binaries are not cached in {path.parent}: {error}")


def _read(path: Path) -> bytes | None:
    """The binary, or None if absent or damaged: drivers may crash on a truncated one."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        warn_once(f"kernel binaries cannot be read from {path.parent}: {error}")
        return None
    digest, binary = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    return binary if hashlib.sha256(binary).digest() == digest else None


_COMPILERS: dict[Any, Compiler] = {}


def compiler_for(device: cl.Device) -> Compiler:
    """The one context and compiler of a device in this process."""
    if device not in _COMPILERS:
        try:
            _COMPILERS[device] = Compiler(cl.Context([device]), device)
        except cl.Error as error:
            raise KernelError(
                f"no OpenCL context on {device.name}: {error}", hint="run `rekindle doctor`"
            ) from error
    return _COMPILERS[device]
