"""`rekindle client classify`: what photos show, said by a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rekindle._errors import NotFoundError, RekindleError, UnreachableError, UsageError
from rekindle.cli._commands import Outcome
from rekindle.cli._page import Page, milliseconds, percent, plain, progress, table
from rekindle.cli.client._connection import register

if TYPE_CHECKING:
    from rekindle.serve.client import Client

_SHOWN = 3


def classify(
    client: Client,
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO...", help="Pictures, and folders of them.")
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Needed where several classifiers are served.")
    ] = "",
    precision: Annotated[
        str, typer.Option("--precision", help="One that the server offers (serve --precisions).")
    ] = "",
    top: Annotated[int, typer.Option(min=1, max=1000, help="Labels for each photo.")] = 5,
) -> Outcome:
    """Send photos to the server and show what each is. One that fails stops no other."""
    from rekindle.tasks.classify import find_photos

    paths = find_photos(photos)
    fields = {"top": str(top), "model": model, "precision": precision}
    fields = {key: value for key, value in fields.items() if value}
    results: list[dict[str, Any]] = []
    code = 0
    for path in progress(paths, len(paths), "photos"):
        try:
            results.append({"photo": path, **client.classify(_read(path), fields)})
        except (UnreachableError, UsageError):
            raise  # no photo would fare better
        except RekindleError as error:
            if len(paths) == 1:
                raise
            code = error.exit_code
            results.append({"photo": path, "error": str(error)})

    def draw(page: Page) -> None:
        _draw(page, results)

    return Outcome({"url": str(client.endpoint), "photos": results}, draw, code)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFoundError(f"{path}: {error.strerror}", hint="check the path") from None


def _draw(page: Page, results: list[dict[str, Any]]) -> None:
    done = [result for result in results if "error" not in result]
    if done:
        made = table("photo", "label", "score", "then", "time", numbers=("score", "time"))
        for result in done:
            best, *others = result["labels"]
            then = "; ".join(f"{o['name']} {percent(o['score'], 0)}" for o in others[: _SHOWN - 1])
            made.add_row(
                plain(result["photo"]),
                plain(best["name"]),
                percent(best["score"]),
                plain(then),
                milliseconds(result["ms"]),
            )
        page.draw(made)
        page.blank()
        page.line(f"by {done[0]['model']} version {done[0]['version']}; times are the server's",
                  style="dim")  # fmt: skip
    for result in results:
        if "error" in result:
            page.line(f"{result['photo']}: {result['error']}", style="red")


register("classify", classify)
