"""`rekindle classify`: what is in a photo, or in many."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rekindle._errors import RekindleError
from rekindle.cli._commands import Outcome, commands
from rekindle.cli._options import (
    DEFAULT_MODEL,
    CardOption,
    DeviceOption,
    FastOption,
    MemoryLimitOption,
    ModelOption,
    PrecisionOption,
    ProviderOption,
    UltraFastOption,
    check_precision,
    check_provider,
)
from rekindle.cli._page import Page, milliseconds, percent, plain, progress, table, working
from rekindle.cli._placement import draw_streaming, placement_facts

if TYPE_CHECKING:
    from rekindle.tasks.classify import Classification

_SHOWN = 3
"""Labels shown of each photo where there are several."""


def classify(
    photos: Annotated[
        list[Path],
        typer.Argument(metavar="PHOTO...", help="Pictures, or folders of pictures."),
    ],
    model: ModelOption = DEFAULT_MODEL,
    card: CardOption = None,
    provider: ProviderOption = "auto",
    device: DeviceOption = None,
    memory_limit: MemoryLimitOption = None,
    precision: PrecisionOption = None,
    fast: FastOption = False,
    ultra_fast: UltraFastOption = False,
    batch: Annotated[
        int, typer.Option("--batch", "-b", min=1, help="Photos that run at once.")
    ] = 1,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Labels per photo.")] = 5,
) -> Outcome:
    """Name what is in photos: one, many, or a folder. A bad file is reported, the rest is done."""
    provider = check_provider(provider, device)
    from rekindle.tasks.classify import find_photos, open_classifier

    paths = find_photos(photos)
    with working(f"opening {model}"):
        classifier = open_classifier(
            model,
            card=card,
            provider=provider,
            device=device,
            memory_limit=memory_limit,
            precision=check_precision(precision, fast, ultra_fast),
        )
    with classifier:
        stream = classifier.stream(paths, batch=batch, top=top)
        results = list(progress(stream, len(paths), "classifying"))
        failed = [result.error for result in results if result.error]
        document = {
            "model": {"name": classifier.card.name, "version": classifier.card.version},
            **placement_facts(classifier.session),
            "failed": len(failed),
            "results": [_facts(result) for result in results],
        }

    def draw(page: Page) -> None:
        draw_results = _draw_many if len(results) > 1 or failed else _draw_one
        draw_results(page, results)
        _draw_footer(page, results, document)

    return Outcome(document, draw, failed[0].exit_code if failed else 0)


def _facts(result: Classification) -> dict[str, Any]:
    return {
        "path": result.path,
        "labels": [vars(label) for label in result.labels],
        "error": error_facts(result.error) if result.error else None,
        "prepare_ms": result.prepare_s * 1e3,
        "run_ms": result.run_s * 1e3,
    }


def error_facts(error: RekindleError) -> dict[str, Any]:
    return {"type": type(error).__name__, "message": error.message, "hint": error.hint}


def _draw_one(page: Page, results: list[Classification]) -> None:
    (result,) = results
    made = table("label", "score", numbers=("score",))
    for place, label in enumerate(result.labels):
        made.add_row(plain(label.name), percent(label.score), style=None if place else "bold")
    page.line(result.path)
    page.draw(made)


def _draw_many(page: Page, results: list[Classification]) -> None:
    done = [result for result in results if not result.error]
    folder = _common_folder(results)
    if folder:
        page.line(f"in {folder}", style="dim")
    if done:
        made = table("photo", "label", "score", "then", numbers=("score",))
        for result in done:
            name = result.path.relative_to(folder) if folder else result.path
            best, *others = result.labels
            then = "; ".join(f"{o.name} {percent(o.score, 0)}" for o in others[: _SHOWN - 1])
            made.add_row(plain(name), plain(best.name), percent(best.score), plain(then))
        page.draw(made)
    for result in results:
        if result.error:
            page.line(result.error, style="red")


def _common_folder(results: list[Classification]) -> str | None:
    """The folder that all photos lie in, so that a table need not repeat it."""
    try:
        folder = os.path.commonpath([result.path.parent for result in results])
    except ValueError:  # absolute and relative paths, or different drives
        return None
    return folder or None


def _draw_footer(page: Page, results: list[Classification], document: dict[str, Any]) -> None:
    done = [result for result in results if not result.error]
    counted = f"{len(done)} of {len(results)} photos" if len(results) > 1 else "1 photo"
    page.blank()
    page.line(
        f"{counted} by {document['model']['name']}, {document['provider']} on {document['device']}"
    )
    draw_streaming(page, document)
    if document["reason"] != "asked for":
        page.line(f"chosen because: {document['reason']}", style="dim")
    if done:
        prepare_ms = median(result.prepare_s for result in done) * 1e3
        run_ms = median(result.run_s for result in done) * 1e3
        note = "median per photo" if len(done) > 2 else "the first run; later ones are faster"
        text = f"{milliseconds(prepare_ms)} to prepare, {milliseconds(run_ms)} in the model"
        page.line(f"{text} ({note})", style="dim")
    page.next_steps(
        [
            ("rekindle classify FOLDER --batch 8 --json", "many at once, for programs"),
            ("rekindle bench MODEL --provider opencl,onnxruntime", "which engine is faster here"),
        ]
    )


commands.register("classify", classify)
