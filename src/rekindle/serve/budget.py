"""A memory budget in bytes, shared by loaded models: who fits, and who must go first.

Plain bookkeeping without I/O. A holding exists from the moment its load begins until its memory
has been given back, so that the sum never counts on what is still there. Models in use are
pinned and never chosen; of the others the one idle longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rekindle._errors import MemoryLimitError

K = TypeVar("K", bound=Hashable)


@dataclass
class Holding:
    """What one model takes of the budget."""

    nbytes: int
    pins: int = 0
    loading: bool = True
    leaving: bool = False
    """Chosen to go: its bytes still count, and nobody may pin it any more."""


class Budget(Generic[K]):
    """The holdings, least recently used first. `capacity` None: no limit."""

    def __init__(self, capacity: int | None) -> None:
        self.capacity = capacity
        self._holdings: OrderedDict[K, Holding] = OrderedDict()

    @property
    def used(self) -> int:
        return sum(holding.nbytes for holding in self._holdings.values())

    def __contains__(self, key: object) -> bool:
        return key in self._holdings

    def holding(self, key: K) -> Holding:
        return self._holdings[key]

    def reserve(self, key: K, nbytes: int) -> bool:
        """Begin a load that needs `nbytes`. False: it does not fit now; free `victims(nbytes)`.

        MemoryLimitError when it could not fit even alone.
        """
        if key in self._holdings:
            raise ValueError(f"{key} has a holding already")
        self._refuse(key, nbytes)
        if self._missing(nbytes) > 0:
            return False
        self._holdings[key] = Holding(nbytes)
        return True

    def settle(self, key: K, nbytes: int) -> bool:
        """A load is done, or a model has grown: this is what it really takes.

        False: all together are now above the budget; free `victims(0)`, or release this one.
        MemoryLimitError when it is too large even alone; it is then still held.
        """
        holding = self._holdings[key]
        holding.nbytes = nbytes
        holding.loading = False
        self._refuse(key, nbytes)
        return self._missing(0) <= 0

    def victims(self, nbytes: int, keep: K | None = None) -> list[K] | None:
        """Idle models, longest idle first, without which `nbytes` more would fit; not `keep`.

        Empty: it fits already, or will once those that are leaving have left. None: even without
        every idle model it does not; somebody must finish first.
        """
        missing = self._missing(nbytes)
        missing -= sum(h.nbytes for h in self._holdings.values() if h.leaving)
        chosen: list[K] = []
        for key, holding in self._holdings.items():
            if missing <= 0:
                break
            if key != keep and not (holding.pins or holding.loading or holding.leaving):
                chosen.append(key)
                missing -= holding.nbytes
        return chosen if missing <= 0 else None

    def leave(self, key: K) -> None:
        """Mark a model that goes: it counts until `release`, and cannot be pinned anew."""
        self._holdings[key].leaving = True

    def release(self, key: K) -> None:
        """Its memory has been given back, or its load failed."""
        del self._holdings[key]

    def pin(self, key: K) -> None:
        """A request uses it: it may not go, and it is now the most recently used."""
        holding = self._holdings[key]
        if holding.leaving:
            raise ValueError(f"{key} is leaving")
        holding.pins += 1
        self._holdings.move_to_end(key)

    def unpin(self, key: K) -> None:
        holding = self._holdings[key]
        if not holding.pins:
            raise ValueError(f"{key} is not in use")
        holding.pins -= 1
        self._holdings.move_to_end(key)

    def _missing(self, nbytes: int) -> int:
        return 0 if self.capacity is None else self.used + nbytes - self.capacity

    def _refuse(self, key: K, nbytes: int) -> None:
        if self.capacity is not None and nbytes > self.capacity:
            raise MemoryLimitError(
                f"{key} needs {nbytes:,} bytes; the budget is {self.capacity:,}",
                hint="raise --memory-budget, or serve a smaller model",
            )
