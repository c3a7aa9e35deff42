"""`rekindle client models`: what a server has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rekindle.cli._commands import Outcome
from rekindle.cli._page import Page, plain, table
from rekindle.cli.client._connection import register

if TYPE_CHECKING:
    from rekindle.serve.client import Client


def models(client: Client) -> Outcome:
    """List the models of a server, and why one cannot be used."""
    found = client.models()

    def draw(page: Page) -> None:
        if not found:
            page.line(f"{client.endpoint} has no models.")
            return
        made = table("model", "version", "state", "")
        for model in found:
            cells = [plain(model.get(key) or "") for key in ("name", "version", "state", "reason")]
            made.add_row(*cells)
        page.draw(made)
        name = next((m["name"] for m in found if m.get("state") == "READY"), "MODEL")
        page.next_steps(
            [
                ("rekindle client classify PHOTO", "what a photo shows"),
                (f"rekindle client infer {name} --input random", "any model, with arrays"),
            ]
        )

    return Outcome({"url": str(client.endpoint), "models": found}, draw)


register("models", models)
