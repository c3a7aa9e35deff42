"""`rekindle client unload`: where the server allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rekindle.cli._commands import Outcome
from rekindle.cli._page import Page, working
from rekindle.cli.client._connection import register

if TYPE_CHECKING:
    from rekindle.serve.client import Client


def unload(
    client: Client, model: Annotated[str, typer.Argument(help="Its name on the server.")]
) -> Outcome:
    """Have the server give a model up; what it is answering is answered first."""
    with working(f"unloading {model}"):
        client.unload(model)

    def draw(page: Page) -> None:
        page.line(f"{model} is unloaded at {client.endpoint}")

    return Outcome({"url": str(client.endpoint), "model": model, "unloaded": True}, draw)


register("unload", unload)
