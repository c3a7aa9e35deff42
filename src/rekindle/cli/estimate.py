"""`rekindle estimate`: what a model would need on a card that is not here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rekindle._errors import NotBuiltError
from rekindle.cli._commands import Outcome, commands
from rekindle.cli._options import MemoryLimitOption, ModelArgument
from rekindle.cli._page import Page, memory, plain, table, working

if TYPE_CHECKING:
    from rekindle.runtime.estimate import MemoryEstimate


def estimate(
    model: ModelArgument,
    memory_plan: Annotated[
        bool, typer.Option("--memory", help="The memory plan: weights and activations.")
    ] = False,
    target: Annotated[
        str,
        typer.Option(
            "--target", "--device", metavar="CARD", help="The card, which need not be here."
        ),
    ] = "rx580",
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="NAME=SIZE", help="Size of a dynamic dimension, else 1."),
    ] = None,
    memory_limit: MemoryLimitOption = None,
) -> Outcome:
    """Estimate what a model needs on a card, without any device."""
    if not memory_plan:
        raise NotBuiltError(
            "estimate can only tell the memory in this version", hint="add --memory"
        )
    from rekindle.cli._anatomy import Question
    from rekindle.runtime._options import parse_bytes
    from rekindle.runtime.estimate import estimate_memory

    limit = None if memory_limit is None else parse_bytes(memory_limit)
    with working(f"planning {model}"):
        question = Question.ask(model, shape or [], None, target)
        found = estimate_memory(question.graph, question.target(), question.shapes, limit)
    document = {
        "path": question.path,
        "kind": "estimate",
        "shapes": question.shapes,
        **found.to_dict(),
    }

    def draw(page: Page) -> None:
        _draw(page, document, found)
        page.next_steps([(f"rekindle inspect {model} --target {target}", "what would run where")])

    return Outcome(document, draw)


def _draw(page: Page, document: dict[str, Any], found: MemoryEstimate) -> None:
    sizes = ", ".join(f"{k} {'x'.join(map(str, v))}" for k, v in document["shapes"].items())
    page.line(f"{document['path']} on {found.target}, estimate for {sizes}", style="bold")
    page.blank()
    made = table("", "memory", "bytes", "", numbers=("memory", "bytes"))
    arena, bound = found.arena_bytes, found.lower_bound_bytes
    over = f"{arena / bound:.2f} x the lower bound" if bound else ""
    saved = f"without sharing, {found.buffers} values"
    rows = (
        ("weights, as packed for the kernels", found.weight_bytes, ""),
        ("activations, sharing memory", arena, over),
        ("lower bound of the activations", bound, "alive together at one step"),
        ("sum of all activations", found.sum_bytes, saved),
        ("largest activation", found.largest_bytes, found.largest_name),
        ("together", found.device_bytes, "weights and activations"),
    )
    for name, nbytes, note in rows:
        made.add_row(name, memory(nbytes), f"{nbytes:,}", plain(note))
    page.draw(made)
    page.blank()
    for fit in found.fits:
        answer, style = ("fits", "") if fit.fits else (f"does not fit: {fit.reason}", "red")
        if fit.streaming:
            answer, style = f"fits, {fit.streaming.summary}", "yellow"
        page.line(f"{memory(fit.memory_bytes)} of device memory: {answer}", style=style)
    if found.host_nodes:
        page.line(f"{found.host_nodes} of {found.nodes} nodes would run on the host.")
    page.line(
        "An estimate from the plan, which is exact in our own buffers; drivers, displays and "
        "other programs take memory of the card, too.",
        style="dim",
    )


commands.register("estimate", estimate)
