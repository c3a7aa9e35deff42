"""`rekindle estimate`: time and memory of a model on a card that is not here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rekindle._errors import ModelError, UsageError
from rekindle.cli._commands import Outcome, commands
from rekindle.cli._options import MemoryLimitOption, ModelArgument, PrecisionOption
from rekindle.cli._page import (
    Page,
    amount,
    memory,
    milliseconds,
    percent,
    plain,
    table,
    working,
)

if TYPE_CHECKING:
    from rekindle.runtime.estimate import MemoryEstimate
    from rekindle.runtime.prediction import TimeEstimate


def estimate(
    model: ModelArgument,
    memory_plan: Annotated[
        bool, typer.Option("--memory", help="Only the memory plan: weights and activations.")
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
    batch: Annotated[
        int | None, typer.Option("--batch", "-b", min=1, help="First dimension of the inputs.")
    ] = None,
    precision: PrecisionOption = None,
    memory_limit: MemoryLimitOption = None,
    top: Annotated[int, typer.Option("--top", min=0, help="How many layers to list.")] = 10,
) -> Outcome:
    """Estimate time, memory and energy of a model on a card, without any device."""
    from rekindle.cli._anatomy import Question, left_open
    from rekindle.cli._options import check_precision
    from rekindle.device.architectures import architecture
    from rekindle.runtime._options import parse_bytes
    from rekindle.runtime.estimate import estimate_memory
    from rekindle.runtime.prediction import estimate_time

    row, stored = architecture(target), check_precision(precision)
    limit = None if memory_limit is None else parse_bytes(memory_limit)
    with working(f"planning {model}"):
        asked = Question.ask(model, shape or [], None, row.key, precision=stored, batch=batch)
        on, shapes, open_ = asked.target(), asked.shapes, left_open(asked)
        found: MemoryEstimate | TimeEstimate
        try:
            if memory_plan:
                found = estimate_memory(asked.graph, on, shapes, limit, asked.precision)
            else:
                found = estimate_time(asked.graph, row, on, shapes, asked.precision, limit)
        except ModelError as error:
            if not open_:
                raise
            raise _left_open(error, open_) from error
    facts = {"shapes": shapes, "taken_as_1": open_, "precision": stored, **found.to_dict()}
    document = {"path": asked.path, "kind": "estimate", **facts}

    def draw(page: Page) -> None:
        _draw(page, document, found, top)
        page.next_steps([(f"rekindle inspect {model} --target {row.key}", "what would run where")])

    return Outcome(document, draw)


def _left_open(error: ModelError, names: list[str]) -> UsageError:
    sizes = " ".join(f"--shape {name}=SIZE" for name in names)
    return UsageError(
        f"the model cannot be planned with {', '.join(names)} of 1: {error.message}",
        hint=f"give sizes: {sizes}",
    )


def _draw(
    page: Page, document: dict[str, Any], found: MemoryEstimate | TimeEstimate, top: int
) -> None:
    from rekindle.runtime.prediction import TimeEstimate

    sizes = ", ".join(f"{k} {'x'.join(map(str, v))}" for k, v in document["shapes"].items())
    page.line(f"{document['path']} on {document['target']}, estimate for {sizes}", style="bold")
    if open_ := document["taken_as_1"]:
        sizes = " ".join(f"--shape {name}=SIZE" for name in open_)
        page.line(f"Left open, and taken as 1: {', '.join(open_)} ({sizes})", style="yellow")
    page.blank()
    if isinstance(found, TimeEstimate):
        _draw_time(page, found, top)
    else:
        _draw_memory(page, found)


def _draw_time(page: Page, found: TimeEstimate, top: int) -> None:
    plan, whole = found.plan, found.seconds
    rate = f", {found.batch / whole:,.0f} a second" if found.batch else ""
    share = found.flops / whole / found.rates.flops_s
    page.line(
        f"{milliseconds(whole * 1e3)} a run{rate}: {amount(found.flops, 'FLOP')}, "
        f"{percent(share)} of peak; {amount(found.moved_bytes, 'B')} moved by kernels"
    )
    parts = [f"{len(plan.launches)} launches {milliseconds(plan.kernels_s * 1e3)}"]
    parts.append(f"transfers {milliseconds(plan.transfers_s * 1e3)}")
    parts.append(f"waiting {milliseconds(plan.waiting_s * 1e3)}")
    if plan.host:
        parts.append(f"{len(plan.host)} steps on the host {milliseconds(plan.host_s * 1e3)}")
    page.line("; ".join(parts))
    if found.energy_j is not None:
        page.line(f"{found.energy_j:.3g} J at most, at {found.rates.power_w:g} W of board power")
    _draw_fits(page, found.memory)
    page.blank()
    _draw_layers(page, found, top)
    if unknown := [step for step in plan.host if step.seconds is None]:
        page.line(
            f"{len(unknown)} steps on the host have sizes that depend on data: not counted, nor "
            "is what follows from them.",
            style="yellow",
        )
    page.heading("An estimate: nothing of it was measured on such a card. It rests on")
    made = table("", "figure", "is", "source", numbers=("figure",))
    for fact in found.facts:
        small = fact.unit == "s" and fact.value < 1e-3
        figure = f"{fact.value * 1e6:.3g} µs" if small else amount(fact.value, fact.unit)
        made.add_row(fact.name, figure, fact.origin, plain(fact.source))
    page.draw(made)


def _draw_layers(page: Page, found: TimeEstimate, top: int) -> None:
    slowest = sorted(found.layers, key=lambda layer: -layer.seconds)[:top]
    if not slowest:
        return
    numbers = ("time", "of all", "GFLOP", "of peak")
    made = table("layer", "operator", "kernels", *numbers, "bound by", "basis", numbers=numbers)
    for layer in slowest:
        made.add_row(
            plain(layer.node),
            layer.operator.removeprefix("rekindle::"),
            ", ".join(layer.kernels),
            milliseconds(layer.seconds * 1e3),
            percent(layer.seconds / found.seconds),
            f"{layer.flops / 1e9:.3f}",
            percent(layer.share),
            layer.limit,
            layer.basis,
        )
    page.draw(made)
    if rest := len(found.layers) - len(slowest):
        page.line(f"and {rest} more layers (--top, or --json for all)", style="dim")


def _draw_memory(page: Page, found: MemoryEstimate) -> None:
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
    _draw_fits(page, found)
    if found.host_nodes:
        page.line(f"{found.host_nodes} of {found.nodes} nodes would run on the host.")
    page.line(
        "An estimate from the plan, which is exact in our own buffers; drivers, displays and "
        "other programs take memory of the card, too.",
        style="dim",
    )


def _draw_fits(page: Page, found: MemoryEstimate) -> None:
    for fit in found.fits:
        answer, style = ("fits", "") if fit.fits else (f"does not fit: {fit.reason}", "red")
        if fit.streaming:
            answer, style = f"fits, {fit.streaming.summary}", "yellow"
        needed = f" ({memory(fit.device_bytes)})" if fit.fits else ""
        page.line(f"{memory(fit.memory_bytes)} of device memory: {answer}{needed}", style=style)


commands.register("estimate", estimate)
