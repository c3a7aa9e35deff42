"""How often a caller may ask: counted in this process, per key or per address."""

from __future__ import annotations

import math
import time

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from rekindle._errors import RateLimitError, UsageError


class RateLimits:
    """One or more limits such as `10/second` or `5/second; 1000/hour`, each caller by itself."""

    def __init__(self, text: str) -> None:
        """UsageError where the text is no rate."""
        self._limits = parse(text)
        self._counts = MovingWindowRateLimiter(MemoryStorage())

    def hit(self, caller: str) -> None:
        """Count a request of a caller; RateLimitError, with the time to wait, past a limit."""
        for limit in self._limits:
            if not self._counts.hit(limit, caller):
                reset_s = self._counts.get_window_stats(limit, caller).reset_time - time.time()
                raise RateLimitError(
                    f"more than {limit} for one caller", retry_after_s=max(math.ceil(reset_s), 1)
                )


def parse(text: str) -> list[RateLimitItem]:
    """The limits in a text."""
    try:
        found = parse_many(text)
    except ValueError:
        found = []
    if not found or any(limit.amount < 1 for limit in found):
        raise UsageError(
            f"{text!r} is no rate", hint='as in "10/second" or "5/second; 1000/hour"'
        ) from None
    return found
