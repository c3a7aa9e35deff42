"""How many bytes of requests the server holds at a time: a flood must not fill its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rekindle._errors import BusyError


class Inflow:
    """Bytes of the requests that are being read or answered."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    @contextmanager
    def hold(self, nbytes: int) -> Iterator[None]:
        """Count a request for as long as it lasts; BusyError where there is no room beside others.

        One request alone is always let in: its own size has a limit of its own.
        """
        if self.held and self.held + nbytes > self.limit:
            raise BusyError(
                f"requests of {self.held:,} bytes are in work already", hint="try again later"
            )
        self.held += nbytes
        try:
            yield
        finally:
            self.held -= nbytes
