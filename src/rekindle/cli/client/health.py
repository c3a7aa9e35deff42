"""`rekindle client health`: whether a server is there and ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rekindle.cli._commands import Outcome
from rekindle.cli._page import Page, memory
from rekindle.cli.client._connection import register

if TYPE_CHECKING:
    from rekindle.serve.client import Client

_NOT_READY = 10
"""BusyError's: ask again later."""


def health(client: Client) -> Outcome:
    """Say whether the server is ready; the exit code is 10 where it is not."""
    found = client.health()
    ready = bool(found.get("ready"))

    def draw(page: Page) -> None:
        word = "ready" if ready else f"not ready: {found.get('status', 'ask again later')}"
        page.line(f"{client.endpoint} is {word}", style="" if ready else "yellow")
        models = found.get("models")
        if isinstance(models, dict):
            page.line(f"models: {', '.join(map(str, models)) or 'none'}")
        held = found.get("memory")
        if isinstance(held, dict) and isinstance(used := held.get("used_bytes"), int):
            budget = held.get("budget_bytes")
            of = memory(budget) if isinstance(budget, int) else "no limit"
            page.line(f"memory: {memory(used)} of {of}; requests in flight: "
                      f"{found.get('in_flight', '-')}")  # fmt: skip
        page.next_steps([("rekindle client models", "what it serves")])

    return Outcome({"url": str(client.endpoint), **found}, draw, 0 if ready else _NOT_READY)


register("health", health)
