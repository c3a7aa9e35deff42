"""`rekindle tune`: find the fastest variant of every kernel on this device, and remember it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rekindle.cli._commands import Outcome, commands
from rekindle.cli._options import DeviceOption, PrecisionOption, check_precision
from rekindle.cli._page import Page, clock_bar, plain, table, working

if TYPE_CHECKING:
    from rekindle.cli._tuning import Tuned


def tune(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="A model file or folder, or a bundled model."),
    ] = None,
    gemm: Annotated[
        list[str] | None,
        typer.Option("--gemm", metavar="M,N,K", help="Tune a matrix product of this size."),
    ] = None,
    conv: Annotated[
        list[str] | None,
        typer.Option(
            "--conv",
            metavar="N,C,H,W,M,K[,STRIDE[,GROUP]]",
            help="Tune a convolution: M filters of K x K on an input N, C, H, W.",
        ),
    ] = None,
    budget: Annotated[
        str, typer.Option("--budget", metavar="TIME", help="When to stop: 60s, 5m; 0: only show.")
    ] = "60s",
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="NAME=SIZE", help="Size of a dynamic dimension, else 1."),
    ] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    export_to: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Write this device's records.")
    ] = None,
    import_from: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="Take records in; they are checked."),
    ] = None,
) -> Outcome:
    """Measure the variants of each kernel on this device, and remember the fastest.

    Plans made from then on use them. What is measured is kept at once: end it with Ctrl-C and go
    on later. Without a model or sizes: what is known of this device.
    """
    from rekindle.cli._tuning import Question, parse_seconds

    budget_s = parse_seconds(budget)
    with working(f"planning {model}" if model else "looking"):
        question = Question.ask(model, gemm or [], conv or [], shape or [], device)
        question.find_tasks(check_precision(precision))
    imported = question.take_in(import_from) if import_from else None
    with clock_bar(budget_s) as progress:
        tuned = question.tune(budget_s, progress)
    if model:
        with working("comparing the whole model"):
            tuned.compare_whole()
    exported = question.write_out(export_to) if export_to else None
    document = tuned.to_dict() | {"imported": imported, "exported": exported}

    def draw(page: Page) -> None:
        _draw(page, tuned, document)

    return Outcome(document, draw)


def _draw(page: Page, tuned: Tuned, document: dict[str, Any]) -> None:
    page.line(f"{document['device']}: {document['driver']}", style="bold")
    if taken := document["imported"]:
        page.line(
            f"{taken['taken']} records taken from {taken['path']}; {taken['kept']} more were "
            "measured here, too, and stay"
        )
        for reason in taken["refused"][:8]:
            page.line(f"refused: {reason}", style="yellow", indent=2)
        if len(taken["refused"]) > 8:
            page.line(f"and {len(taken['refused']) - 8} more; --json", indent=2)
    if document["layers"]:
        _draw_layers(page, document)
    for wrong in document["wrong"]:
        page.line(f"wrong result, never used: {wrong}", style="yellow")
    for broken in document["broken"][:4]:
        page.line(f"not compiled or not run, never used: {broken}", style="yellow")
    if tuned.interrupted:
        page.line(
            "interrupted; what was measured is kept, the same command goes on", style="yellow"
        )
    if written := document["exported"]:
        page.line(f"{written['records']} records written to {written['path']}")
    if not document["layers"] and not document["imported"] and not document["exported"]:
        page.line("nothing is tuned on this device yet")
        page.next_steps([("rekindle tune MODEL", "tune what a model needs, for a minute")])


def _draw_layers(page: Page, document: dict[str, Any]) -> None:
    numbers = ("layers", "heuristic µs", "tuned µs", "gain", "measured")
    made = table("class of calls", *numbers, "fastest", numbers=numbers)
    for row in document["layers"]:
        measured = row["heuristic_s"] is not None
        made.add_row(
            plain(row["workload"]),
            str(len(row["layers"])),
            f"{row['heuristic_s'] * 1e6:,.1f}" if measured else "-",
            f"{row['tuned_s'] * 1e6:,.1f}" if measured else "-",
            f"{row['gain']:.2f}" if measured else "-",
            f"{row['measured']}/{row['space']}" if row["space"] else str(row["measured"]),
            plain(row["problem"] or row["tuned"]),
        )
    page.draw(made)
    page.blank()
    if (mean := document["geometric_mean_gain"]) is not None:
        page.line(
            f"tuned kernels are {mean:.2f} times as fast as the heuristics' choice "
            "(geometric mean over layers)"
        )
    if whole := document["whole_model"]:
        page.line(
            f"whole model: {whole['heuristic_ms']:.3f} ms by the heuristics, "
            f"{whole['tuned_ms']:.3f} ms tuned (ratio {whole['ratio']:.3f}), outputs differ by "
            f"{whole['difference']:.1e}"
        )
    if left := document["left"]:
        page.line(f"{left} variants are not measured yet; the same command goes on with them")


commands.register("tune", tune)
