"""How long a run takes for how many rows, learnt from the runs themselves."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

_WEIGHT = 0.2
"""Of a new measurement in the running mean."""
_GOOD = 0.9
"""A batch size is worth stopping at when its throughput is this share of the best one's."""
_RETHINK = 16
"""Measurements between two choices of sizes: the means move slowly."""
_EXPLORE = 32
"""Every so many choices the cap is left aside, so that one bad measurement is not for ever."""


class LatencyModel:
    """Running mean of the seconds per batch size, and what follows for choosing sizes.

    Sizes never seen are interpolated, past the largest by the last slope: the constant part of a
    run (launches, calls) and the part per row need no further model.
    """

    def __init__(self, max_rows: int, seen: Iterable[tuple[int, float]] = ()) -> None:
        self.max_rows = max_rows
        self._mean: dict[int, float] = {}
        self._rows: list[int] = []
        self._target = self._cap = max_rows
        self._count = self._choices = 0
        for rows, seconds in seen:
            self._learn(rows, seconds)
        self._choose()

    @property
    def target(self) -> int:
        """The smallest size that reaches a good throughput: waiting for more gains little."""
        return self._target

    def cap(self) -> int:
        """The most rows to take into a run now."""
        self._choices += 1
        return self.max_rows if self._choices % _EXPLORE == 0 else self._cap

    def observe(self, rows: int, seconds: float) -> None:
        self._learn(rows, seconds)
        self._count += 1
        if self._count % _RETHINK == 0:
            self._choose()

    def predict(self, rows: int) -> float:
        """Seconds for a run of so many rows; 0 where nothing has been measured."""
        known = self._rows
        if not known:
            return 0.0
        if rows in self._mean:
            return self._mean[rows]
        if len(known) == 1:
            return self._mean[known[0]] * max(rows / known[0], 1.0)
        at = min(max(bisect.bisect(known, rows), 1), len(known) - 1)
        low, high = known[at - 1], known[at]
        slope = (self._mean[high] - self._mean[low]) / (high - low)
        return max(self._mean[low] + slope * (rows - low), 0.0)

    def _learn(self, rows: int, seconds: float) -> None:
        if rows in self._mean:
            self._mean[rows] += _WEIGHT * (seconds - self._mean[rows])
        else:
            self._mean[rows] = seconds
            bisect.insort(self._rows, rows)

    def _choose(self) -> None:
        if len(self._rows) < 2:
            return  # until something is known, take what comes
        sizes = range(1, self.max_rows + 1)
        rates = [rows / max(self.predict(rows), 1e-9) for rows in sizes]
        enough = _GOOD * max(rates)
        good = [rows for rows, rate in zip(sizes, rates, strict=True) if rate >= enough]
        self._target, self._cap = good[0], good[-1]
