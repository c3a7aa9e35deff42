"""Which row of the architecture table a reported device is.

Drivers disagree: Mesa says "AMD Radeon RX 580 Series (radeonsi, polaris10, ACO, DRM 3.57, ...)",
AMD's Windows driver "Ellesmere" with the board name aside, ROCm "gfx803". A name may also be
wrong (a 2048SP card sold as RX 580), so a name that contradicts the number of compute units is
not believed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rekindle.device.architectures import Architecture, Chip, architectures, chips

_CLOCK_TOLERANCE = 0.02
_MEMORY_TOLERANCE = 0.15
"""Drivers report the memory they can give, a little less than what is soldered on."""


@dataclass(frozen=True)
class Match:
    """The row found, how, and the keys of other cards that fit what was reported as well.

    `by`: "pci" (device id and revision), "name" (the driver named the card), "units" (the chip
    was named; units, memory and clock leave one card) or "chip" (several cards remain, or none
    has that many units; `row` is the slowest, so that no figure promises too much).
    """

    row: Architecture
    by: Literal["pci", "name", "units", "chip"]
    alternatives: tuple[str, ...] = ()


def match(
    device_name: str,
    *,
    board_name: str = "",
    compute_units: int | None = None,
    global_bytes: int | None = None,
    clock_hz: int | None = None,
    pci: str | None = None,
) -> Match | None:
    """The row for a device as a driver reports it; None where the table has nothing like it.

    `pci` is "device:revision" in hex ("67df:e7"). Figures left out narrow nothing.
    """
    if pci:
        for row in architectures().values():
            if pci.lower() in row.pci:
                return Match(row, "pci")
    text = _plain(f"{board_name} {device_name}")
    named = _by_alias(text)
    if named and compute_units in (None, named.compute_units):
        return Match(named, "name")
    found = {named.chip.name} if named else {chip.name for chip in chips_named(text)}
    rows = [row for row in architectures().values() if row.chip.name in found]
    if not rows:
        return None
    return _narrow(rows, compute_units, global_bytes, clock_hz)


def chips_named(text: str) -> tuple[Chip, ...]:
    """Chips that a device name mentions, by codename or gfx number ("gfx803" is several)."""
    plain = _plain(text)
    by_name = [c for c in chips().values() if any(_has_word(plain, n) for n in c.names)]
    if by_name:
        return tuple(by_name)
    return tuple(c for c in chips().values() if any(_has_word(plain, g) for g in c.gfx))


def _by_alias(text: str) -> Architecture | None:
    """The card whose longest alias the text holds: "RX 580 2048SP" before "RX 580"."""
    hits = [
        (len(alias), row)
        for row in architectures().values()
        for alias in row.aliases
        if _has_word(text, alias.lower())
    ]
    return max(hits, key=lambda hit: hit[0])[1] if hits else None


def _narrow(
    rows: list[Architecture],
    compute_units: int | None,
    global_bytes: int | None,
    clock_hz: int | None,
) -> Match:
    rows = _keep(rows, [row for row in rows if compute_units == row.compute_units])
    if global_bytes is not None:
        rows = _keep(rows, [row for row in rows if _sold_with(row, global_bytes)])
    if clock_hz is not None:
        rows = _keep(rows, [row for row in rows if _near(clock_hz, row.clock_hz)])
    slowest = min(rows, key=lambda row: row.fp32_flops)
    others = tuple(row.key for row in rows if row is not slowest)
    certain = not others and slowest.compute_units == compute_units
    return Match(slowest, "units" if certain else "chip", others)


def _keep(rows: list[Architecture], fitting: list[Architecture]) -> list[Architecture]:
    return fitting or rows


def _sold_with(row: Architecture, size_bytes: int) -> bool:
    return any(abs(size_bytes - m) <= _MEMORY_TOLERANCE * m for m in row.memory_bytes)


def _near(clock_hz: int, expected_hz: int) -> bool:
    return abs(clock_hz - expected_hz) <= _CLOCK_TOLERANCE * expected_hz


def _plain(text: str) -> str:
    return re.sub(r"\((?:tm|r)\)", "", text.lower())


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", text) is not None
