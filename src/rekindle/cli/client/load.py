"""`rekindle client load`: where the server allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rekindle.cli._commands import Outcome
from rekindle.cli._page import Page, working
from rekindle.cli.client._connection import register

if TYPE_CHECKING:
    from rekindle.serve.client import Client


def load(
    client: Client, model: Annotated[str, typer.Argument(help="Its name on the server.")]
) -> Outcome:
    """Have the server load a model, or take up its new and changed versions."""
    with working(f"loading {model}"):
        client.load(model)

    def draw(page: Page) -> None:
        page.line(f"{model} is loaded at {client.endpoint}")

    return Outcome({"url": str(client.endpoint), "model": model, "loaded": True}, draw)


register("load", load)
