"""`rekindle profile`: where the time of a model goes, kernel by kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rekindle.cli._commands import Outcome, commands
from rekindle.cli._options import DeviceOption, ModelArgument
from rekindle.cli._page import Page, milliseconds, percent, plain, table, working

if TYPE_CHECKING:
    from rekindle.engine.profile import Profile


def profile(
    model: ModelArgument,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="NAME=SIZE", help="Size of a dynamic dimension, else 1."),
    ] = None,
    device: DeviceOption = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs that count.")] = 10,
    top: Annotated[int, typer.Option("--top", min=0, help="How many launches to list.")] = 10,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained page.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FILE", help="Write a trace for Chrome or Perfetto."),
    ] = None,
) -> Outcome:
    """Measure every kernel of a model on OpenCL: time, GB/s, GFLOP/s, share of the roofline."""
    from rekindle.cli._anatomy import Question, save_page
    from rekindle.engine.profile import chrome_trace
    from rekindle.runtime.benchmark import feeds_for
    from rekindle.runtime.profile import profile_model
    from rekindle.runtime.profile_page import profile_page

    with working(f"profiling {model}"):
        question = Question.ask(model, shape or [], device, None)
        sizes = _sizes(question)
        feeds = feeds_for(question.graph.input_specs(), sizes)
        found = profile_model(question.graph, feeds, device, runs)
    title = f"{question.path.name} on {found.device}"
    if html:
        save_page(html, profile_page(found, title), "--html")
    if trace:
        save_page(trace, json.dumps(chrome_trace(found)), "--trace")
    document = {
        "path": question.path,
        "shapes": question.shapes,
        **found.to_dict(),
        "html": html,
        "trace": trace,
    }

    def draw(page: Page) -> None:
        page.line(title, style="bold")
        _draw(page, found, top)
        for path in filter(None, (html, trace)):
            page.line(f"written: {path}")
        page.next_steps(
            [
                (f"rekindle profile {model} --html profile.html", "timeline and memory plan"),
                (f"rekindle bench {model}", "how fast it is on each engine"),
            ]
        )

    return Outcome(document, draw)


def _sizes(question: Any) -> dict[str, int]:
    """Sizes of the dynamic dimensions, by name, as the question has them."""
    return {
        dim: size
        for spec in question.graph.input_specs()
        for dim, size in zip(spec.shape, question.shapes[spec.name], strict=True)
        if isinstance(dim, str)
    }


def _draw(page: Page, found: Profile, top: int) -> None:
    from rekindle.runtime.profile_page import by_kernel

    roof, run_s = found.peaks, found.run_s
    page.line(
        f"{milliseconds(run_s * 1e3)} the quickest run, events on: kernels "
        f"{percent(found.seconds('kernel') / run_s, 0)}, transfers "
        f"{percent((found.seconds('upload') + found.seconds('download')) / run_s, 0)}, host steps "
        f"{percent(found.seconds('host') / run_s, 0)}, nothing {percent(found.gap_s / run_s, 0)}"
    )
    page.line(
        f"measured peaks: {roof.flops_s / 1e9:,.0f} GFLOP/s, "
        f"{roof.bandwidth_bytes_s / 1e9:,.1f} GB/s, {roof.launch_s * 1e6:,.1f} µs a launch"
    )
    page.heading("By kernel")
    numbers = ("launches", "ms", "share", "GFLOP/s", "GB/s", "roofline")
    made = table("kernel", *numbers, numbers=numbers)
    total = sum(launch.seconds for launch in found.launches) or 1.0
    for t in by_kernel(found.launches):
        figures = (t.flops / t.seconds / 1e9, t.moved_bytes / t.seconds / 1e9)
        made.add_row(
            plain(t.kernel),
            str(t.launches),
            f"{t.seconds * 1e3:.3f}",
            percent(t.seconds / total),
            *(f"{figure:.1f}" for figure in figures),
            percent(t.roofline, 0),
        )
    page.draw(made)
    if top:
        page.heading("Slowest launches")
        _draw_launches(page, found, top)
    page.blank()
    page.line(
        f"times are the least of {found.runs} runs; roofline: what the measured peaks allow over "
        "that; above 100% where tensors come from the caches",
        style="dim",
    )


def _draw_launches(page: Page, found: Profile, top: int) -> None:
    numbers = ("µs", "GFLOP/s", "GB/s", "roofline")
    made = table("node", "kernel", *numbers, "limit", numbers=numbers)
    for t in sorted(found.launches, key=lambda t: -t.seconds)[:top]:
        made.add_row(
            plain(t.node),
            plain(t.tuned or t.kernel),
            f"{t.seconds * 1e6:,.1f}",
            f"{t.flops_s / 1e9:.1f}",
            f"{t.bytes_s / 1e9:.1f}",
            percent(t.roofline, 0),
            t.limit,
        )
    page.draw(made)


commands.register("profile", profile)
