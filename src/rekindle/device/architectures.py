"""The table of architectures: cards, the chips they carry, and what each figure comes from.

A row answers two questions without the card being there: how fast could it be at best
(`roofline`), and what must a plan for it respect (`target_from`). `match` finds the row of a
device that a driver reports; several cards carry one chip and some drivers name only the chip, so
a match says how it was found and which other cards it could be.
"""

from __future__ import annotations

import difflib
import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from rekindle import _config
from rekindle._errors import NotFoundError, UsageError
from rekindle._types import Family, Target

GIB = 1 << 30
ALIGNMENT_BYTES = 512
"""Sub-buffer alignment of a Target made from a row: Rusticl asks 4096 bits, AMD's driver 2048."""
_CPU_ALIGNMENT_BYTES = 128
_MAX_WORK_GROUP = 256


@dataclass(frozen=True)
class Chip:
    """One graphics chip (or kind of processor). `names` and `gfx` are how drivers call it."""

    name: str
    names: tuple[str, ...]
    gfx: tuple[str, ...]
    generation: str
    family: Family
    lanes: int
    """fp32 multiply-adds that one compute unit finishes in a clock."""
    wavefront: int
    lds_bytes: int
    """Local memory of a work-group under every known driver of the chip."""
    fp16_rate: float
    """Half-precision arithmetic against fp32; 0: none worth using."""
    fp64: bool
    pci: tuple[str, ...]
    source: str
    reachable_fp32: float | None = None
    reachable_bandwidth: float | None = None
    reachable_source: str = ""


@dataclass(frozen=True)
class Memory:
    """One size a card was sold with, and the bandwidth that goes with it."""

    size_bytes: int
    bandwidth_bytes_s: float


@dataclass(frozen=True)
class Architecture:
    """One row of the table; every figure is from `source` unless `assumptions` says otherwise."""

    key: str
    name: str
    chip: Chip
    aliases: tuple[str, ...]
    compute_units: int
    clock_hz: int
    published_fp32_flops: float
    memory: tuple[Memory, ...]
    board_power_w: float | None
    pci: tuple[str, ...]
    source: str
    assumptions: str

    @property
    def family(self) -> Family:
        return self.chip.family

    @property
    def fp32_flops(self) -> float:
        """Peak FLOP/s: units x lanes x 2 (a multiply-add counts as two) x clock."""
        return float(self.compute_units * self.chip.lanes * 2 * self.clock_hz)

    @property
    def memory_bytes(self) -> tuple[int, ...]:
        """The sizes it was sold with, smallest first."""
        return tuple(m.size_bytes for m in self.memory)

    def bandwidth_bytes_s(self, memory_bytes: int | None = None) -> float:
        """Peak bandwidth of the card with that much memory (None: the largest)."""
        return self._memory(memory_bytes).bandwidth_bytes_s

    def _memory(self, memory_bytes: int | None) -> Memory:
        if memory_bytes is None:
            return self.memory[-1]
        for memory in self.memory:
            if memory.size_bytes == memory_bytes:
                return memory
        sizes = " or ".join(f"{m.size_bytes} ({m.size_bytes / GIB:g} GiB)" for m in self.memory)
        raise UsageError(
            f"{self.name} was not sold with {memory_bytes} bytes of memory; expected {sizes}",
            hint="leave memory_bytes out for the largest",
        )


@functools.cache
def chips() -> dict[str, Chip]:
    """All chips by name, in the order of chips.toml."""
    return {row["name"]: Chip(**_frozen(row)) for row in _load("chips.toml")["chip"]}


@functools.cache
def architectures() -> dict[str, Architecture]:
    """All rows by key, in the order of architectures.toml."""
    return {row["key"]: _card(row) for row in _load("architectures.toml")["card"]}


def architecture(key: str) -> Architecture:
    """The row with that key ("rx580"), or one of its names ("Radeon RX 580", "RX 580").

    NotFoundError offers near keys, or lists them all.
    """
    rows = architectures()
    if key in rows:
        return rows[key]
    wanted = _squeezed(key)
    for row in rows.values():
        if wanted in map(_squeezed, (row.key, row.name, *row.aliases)):
            return row
    squeezed = {_squeezed(name): name for name in rows}
    near = [squeezed[name] for name in difflib.get_close_matches(wanted, squeezed, n=3)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(rows)}"
    raise NotFoundError(f"unknown architecture {key!r}", hint=hint)


def _squeezed(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum()).removeprefix("radeon")


def chip_of_pci(vendor: str, device: str) -> Chip | None:
    """The chip behind a PCI vendor and device id (four hex digits each), if the table has it."""
    if vendor != "1002":
        return None
    return next((chip for chip in chips().values() if device in chip.pci), None)


def target_from(key: str, memory_bytes: int | None = None) -> Target:
    """A Target for a card that need not be here; `memory_bytes` chooses among the sizes sold.

    Local memory is what every driver of the chip grants a work-group, the largest buffer the
    quarter of the memory that OpenCL promises: a plan that fits runs under any driver. `fp16` is
    what the chip can do; a driver may not offer it (Mesa does from 25.2 on).
    """
    row = architecture(key)
    size = row._memory(memory_bytes).size_bytes
    cpu = row.family == "cpu"
    return Target(
        name=row.name,
        family=row.family,
        compute_units=row.compute_units,
        wavefront=row.chip.wavefront,
        lds_bytes=row.chip.lds_bytes,
        global_bytes=size,
        max_alloc_bytes=size // 4,
        alignment_bytes=_CPU_ALIGNMENT_BYTES if cpu else ALIGNMENT_BYTES,
        max_work_group=_MAX_WORK_GROUP,
        fp16=row.chip.fp16_rate >= 1,
        fp64=row.chip.fp64,
        disabled_kernels=_config.disabled_kernels(),
    )


def _load(name: str) -> dict[str, Any]:
    text = resources.files("rekindle.device").joinpath(name).read_text(encoding="utf-8")
    return tomllib.loads(text)


def _frozen(row: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}


def _card(row: dict[str, Any]) -> Architecture:
    return Architecture(
        key=row["key"],
        name=row["name"],
        chip=chips()[row["chip"]],
        aliases=tuple(row["aliases"]),
        compute_units=row["compute_units"],
        clock_hz=row["clock_mhz"] * 1_000_000,
        published_fp32_flops=row["fp32_gflops"] * 1e9,
        memory=tuple(Memory(gib * GIB, gb_s * 1e9) for gib, gb_s in row["memory"]),
        board_power_w=row.get("power_w"),
        pci=tuple(row.get("pci", ())),
        source=row["source"],
        assumptions=row.get("assumptions", ""),
    )
