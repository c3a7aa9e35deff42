"""Memory plan: values that are never alive together share bytes of an arena.

Greedy (Pisarchyk & Lee 2020, "Efficient Memory Management for Deep Neural Net Inference",
sections 5.2 and 5.3): values are placed one after the other, each at the lowest offset where it
overlaps none that is alive with it. Which order is best depends on the network, so several are
tried, and the smallest arena wins; then the value that ends highest goes first, as long as that
helps. All of it is deterministic.

A device may refuse one buffer of that size: the arena is then several buffers, none larger than
the device allows, and no value lies across two of them.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

_ROUNDS = 24
"""How often, from each order, the highest value is tried first; a round places every value once.
The order that is best at once need not be the one that gets furthest."""
_WORK = 24_000_000
"""Values squared, times placements: what the search may cost, some tenths of a second."""


@dataclass(frozen=True)
class Lifetime:
    """A value of `nbytes`, alive from step `first` to step `last`, both inclusive."""

    name: str
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """Offsets in bytes into the arenas, which are counted as if they lay end to end."""

    offsets: Mapping[str, int]
    sizes: Mapping[str, int]
    """Aligned sizes."""
    arenas: tuple[int, ...]
    """Bytes of each arena: one, unless the device allows no buffer of that size."""
    lower_bound_bytes: int
    """The largest sum of aligned bytes alive at one step: no plan can be smaller."""

    @property
    def arena_bytes(self) -> int:
        return sum(self.arenas)

    def place(self, name: str) -> tuple[int, int]:
        """The index of a value's arena, and its offset there in bytes."""
        starts = list(accumulate(self.arenas, initial=0))
        arena = bisect_right(starts, self.offsets[name], hi=len(self.arenas)) - 1
        return arena, self.offsets[name] - starts[arena]


def pack(
    lifetimes: Iterable[Lifetime], alignment_bytes: int, max_arena_bytes: int | None = None
) -> MemoryPlan:
    """Place every lifetime; empty values still take one aligned unit, so each has an address.

    No arena is larger than `max_arena_bytes`, unless one value alone is.
    """
    items = sorted(lifetimes, key=lambda v: (-v.nbytes, v.first, v.name))
    sizes = {v.name: max(-(-v.nbytes // alignment_bytes), 1) * alignment_bytes for v in items}
    bound = _lower_bound(items, sizes)
    room = 0  # values never lie across a multiple of it; 0: no such borders
    if max_arena_bytes is not None:
        largest = max(sizes.values(), default=0)
        room = max(max_arena_bytes // alignment_bytes * alignment_bytes, largest)
    offsets = _search(items, sizes, bound, room)
    arenas, moved = _split(offsets, sizes, room)
    return MemoryPlan(moved, sizes, arenas, bound)


def _search(
    items: Sequence[Lifetime], sizes: Mapping[str, int], bound: int, room: int
) -> dict[str, int]:
    """The best placement found; the first is taken if it is as small as any can be."""

    def total(offsets: Mapping[str, int]) -> int:
        return sum(_split(offsets, sizes, room)[0])

    left = max(_WORK // max(len(items), 1) ** 2, 1)
    tried: list[tuple[int, list[Lifetime], dict[str, int]]] = []
    best: dict[str, int] = {}
    least = -1
    for candidate in _orders(items, sizes)[:left]:
        offsets = _place(candidate, sizes, room)
        tried.append((total(offsets), list(candidate), offsets))
        if least < 0 or tried[-1][0] < least:
            best, least = offsets, tried[-1][0]
        if least <= bound:
            return best
    left -= len(tried)
    for _, order, offsets in sorted(tried, key=lambda each: each[0]):
        for _ in range(min(_ROUNDS, left)):
            left -= 1
            highest = max(order, key=lambda v: (offsets[v.name] + sizes[v.name], v.name))
            if order[0] is highest:
                break
            order.remove(highest)
            order.insert(0, highest)
            offsets = _place(order, sizes, room)
            if total(offsets) < least:
                best, least = offsets, total(offsets)
            if least <= bound:
                return best
    return best


_Key = Callable[[Lifetime], tuple[int, ...]]
_ORDERS: tuple[_Key, ...] = (
    lambda v: (-v.nbytes, v.first),
    lambda v: (-v.nbytes * (v.last - v.first + 1), v.first),
    lambda v: (v.first - v.last, -v.nbytes),
    lambda v: (v.first, -v.nbytes),
    lambda v: (-v.last, -v.nbytes),
)


def _orders(items: Sequence[Lifetime], sizes: Mapping[str, int]) -> list[Sequence[Lifetime]]:
    """By size first: the best single order of the paper. Ties keep the order of `items`."""
    by_key: list[Sequence[Lifetime]] = [sorted(items, key=key) for key in _ORDERS]
    return [*by_key, _by_breadth(items, sizes)]


def _by_breadth(items: Sequence[Lifetime], sizes: Mapping[str, int]) -> list[Lifetime]:
    """What is alive at the fullest step first, by size; then what the next fullest step adds."""
    alive: dict[int, list[Lifetime]] = {v.first: [] for v in items}
    steps = sorted(alive)
    for item in items:
        for step in steps[bisect_right(steps, item.first - 1) : bisect_right(steps, item.last)]:
            alive[step].append(item)
    fullest = sorted(steps, key=lambda s: (-sum(sizes[v.name] for v in alive[s]), s))
    return list(dict.fromkeys(item for step in fullest for item in alive[step]))


def _place(order: Sequence[Lifetime], sizes: Mapping[str, int], room: int) -> dict[str, int]:
    """First fit: each value at the lowest offset that is free throughout its life."""
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last; by offset
    offsets: dict[str, int] = {}
    for item in order:
        size, first, last = sizes[item.name], item.first, item.last
        offset = 0
        for start, end, other_first, other_last in placed:
            if other_first <= last and first <= other_last:
                if offset + size <= start:
                    break
                if end > offset:
                    offset = _whole(end, size, room)
        offsets[item.name] = offset
        insort(placed, (offset, offset + size, first, last))
    return offsets


def _whole(offset: int, size: int, room: int) -> int:
    """The lowest offset from here where `size` bytes lie within one multiple of `room`."""
    if room and offset % room + size > room:
        return offset + room - offset % room
    return offset


def _split(
    offsets: Mapping[str, int], sizes: Mapping[str, int], room: int
) -> tuple[tuple[int, ...], dict[str, int]]:
    """Arenas of at most `room`, each as large as what lies in it, and the offsets after that."""
    if not offsets:
        return (), {}
    ends: dict[int, int] = {}
    for name, offset in offsets.items():
        index = offset // room if room else 0
        ends[index] = max(ends.get(index, 0), offset + sizes[name] - index * room)
    used = sorted(ends)
    starts = dict(zip(used, accumulate((ends[k] for k in used), initial=0), strict=False))
    moved = {}
    for name, offset in offsets.items():
        index = offset // room if room else 0
        moved[name] = offset - index * room + starts[index]
    return tuple(ends[k] for k in used), moved


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
