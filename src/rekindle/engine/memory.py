"""Memory plan: values that are never alive together share bytes of one arena.

Greedy by size (Pisarchyk & Lee 2020, "Efficient Memory Management for Deep Neural Net
Inference", section 5.3): the largest value first, each at the lowest offset where it overlaps no
value that is alive with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Lifetime:
    """A value of `nbytes`, alive from step `first` to step `last`, both inclusive."""

    name: str
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """Offsets in bytes into one arena of `arena_bytes`."""

    offsets: Mapping[str, int]
    sizes: Mapping[str, int]
    """Aligned sizes."""
    arena_bytes: int
    lower_bound_bytes: int
    """The largest sum of aligned bytes alive at one step: no plan can be smaller."""


def pack(lifetimes: Iterable[Lifetime], alignment_bytes: int) -> MemoryPlan:
    """Place every lifetime; empty values still take one aligned unit, so each has an address."""
    items = sorted(lifetimes, key=lambda v: (-v.nbytes, v.first, v.name))
    sizes = {v.name: max(-(-v.nbytes // alignment_bytes), 1) * alignment_bytes for v in items}
    placed: list[Lifetime] = []
    offsets: dict[str, int] = {}
    arena_bytes = 0
    for item in items:
        alive = (p for p in placed if p.first <= item.last and item.first <= p.last)
        offset = 0
        for start, end in sorted((offsets[p.name], offsets[p.name] + sizes[p.name]) for p in alive):
            if offset + sizes[item.name] <= start:
                break
            offset = max(offset, end)
        offsets[item.name] = offset
        arena_bytes = max(arena_bytes, offset + sizes[item.name])
        placed.append(item)
    return MemoryPlan(offsets, sizes, arena_bytes, _lower_bound(items, sizes))


def _lower_bound(items: Iterable[Lifetime], sizes: Mapping[str, int]) -> int:
    change: dict[int, int] = {}
    for item in items:
        change[item.first] = change.get(item.first, 0) + sizes[item.name]
        change[item.last + 1] = change.get(item.last + 1, 0) - sizes[item.name]
    alive = peak = 0
    for step in sorted(change):
        alive += change[step]
        peak = max(peak, alive)
    return peak
