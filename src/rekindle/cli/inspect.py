"""`rekindle inspect`: what a model consists of, what it costs, what would run where."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rekindle.cli._commands import Outcome, commands
from rekindle.cli._options import (
    DeviceOption,
    MemoryLimitOption,
    ModelArgument,
    PrecisionOption,
    check_precision,
)
from rekindle.cli._page import Page, amount, memory, percent, plain, table, working

_SHOWN_HOST_NODES = 8


def inspect(
    model: ModelArgument,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained page.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="NAME=SIZE", help="Size of a dynamic dimension, else 1."),
    ] = None,
    device: DeviceOption = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="CARD", help="Plan for a card that is not here: rx580."),
    ] = None,
    memory_limit: MemoryLimitOption = None,
    precision: PrecisionOption = None,
    provider: Annotated[
        str, typer.Option("--provider", "-p", help="Whose plan: opencl, or hybrid (with the CPU).")
    ] = "opencl",
) -> Outcome:
    """Summarise a model: inputs, operators, FLOPs, bytes, and what would run where on OpenCL."""
    from rekindle.cli._anatomy import Question, examine, html_page, save_page

    with working(f"reading {model}"):
        question = Question.ask(
            model, shape or [], device, target, provider, check_precision(precision)
        )
        document, plan = examine(question, memory_limit)
    if html:
        save_page(html, html_page(question, document, plan))
    document["html"] = html

    def draw(page: Page) -> None:
        _draw_model(page, document)
        _draw_operators(page, document)
        _draw_plan(page, document)
        if html:
            page.blank()
            page.line(f"page: {html}")
        page.next_steps(
            [
                (f"rekindle run {model}", "run it once on random input"),
                (f"rekindle bench {model}", "how fast it is on each engine"),
            ]
        )

    return Outcome(document, draw)


def _draw_model(page: Page, document: dict[str, Any]) -> None:
    page.line(document["path"], style="bold")
    page.line(
        f"{document['framework']}, opset {document['opset']}, "
        f"{amount(document['file_bytes'], 'B')}, {amount(document['parameters'])} parameters"
    )
    for kind in ("inputs", "outputs"):
        for spec in document[kind]:
            dims = ", ".join(map(str, spec["shape"]))
            page.line(f"{kind.removesuffix('s'):<7} {spec['name']}: {spec['dtype']}[{dims}]")


def _draw_operators(page: Page, document: dict[str, Any]) -> None:
    sizes = ", ".join(f"{k} {'x'.join(map(str, v))}" for k, v in document["shapes"].items())
    page.heading(f"Operators, for {sizes}" if sizes else "Operators")
    made = table("operator", "count", "FLOP", "share", numbers=("count", "FLOP", "share"))
    total = document["flops"]
    for entry in document["operators"]:
        flops = entry["flops"]
        share = percent(flops / total) if flops and total else ""
        made.add_row(plain(entry["operator"]), str(entry["count"]), amount(flops), share)
    made.add_row("all", str(sum(e["count"] for e in document["operators"])), amount(total), "")
    page.draw(made)
    if document["unsupported"]:
        names = ", ".join(document["unsupported"])
        page.line(f"Rekindle does not know: {names}", style="yellow")
    if document["problem"]:
        page.line(f"No figures: {document['problem']}", style="yellow")


def _draw_plan(page: Page, document: dict[str, Any]) -> None:
    plan = document["plan"]
    if plan is None:
        page.heading("On OpenCL")
        page.line(f"No plan: {document['plan_problem']}", style="yellow")
        return
    page.heading(f"On {plan['target']}")
    steps = plan["steps"]
    host = [step for step in steps if step["where"] == "host"]
    page.line(
        f"{len(steps) - len(host)} of {len(steps)} steps on the device, after "
        f"{sum(e['count'] for e in document['operators'])} operators were folded and fused"
    )
    page.line(
        f"{memory(plan['device_bytes'])} of device memory: weights {memory(plan['weight_bytes'])}, "
        f"activations {memory(plan['activation_bytes'])}"
    )
    if streaming := plan["streaming"]:
        page.line(
            f"within {memory(streaming['limit_bytes'])}: {streaming['summary']}, "
            f"{memory(streaming['resident_bytes'])} stay, the others share "
            f"{memory(streaming['staging_bytes'])}",
            style="yellow",
        )
    page.line(f"in every run: {plan['moved']}")
    if plan["costs"]:
        page.line(f"device or CPU is decided by {plan['costs']}")
    for step in host[:_SHOWN_HOST_NODES]:
        page.line(f"on the host: {step['operator']} {step['node']} ({step['reason']})", indent=2)
    if len(host) > _SHOWN_HOST_NODES:
        page.line(f"and {len(host) - _SHOWN_HOST_NODES} more on the host; --json", indent=2)
    used: dict[str, int] = {}
    for step in steps:
        if step["where"] == "host":
            continue
        for kernel in step["kernels"]:
            used[kernel] = used.get(kernel, 0) + 1
    if tuned := sum(bool(step["tuned"]) for step in steps):
        page.line(f"tuning records decide {tuned} of {len(steps)} steps; --json says which")
    if used:
        page.line("kernels: " + ", ".join(f"{name} {count}x" for name, count in used.items()))


commands.register("inspect", inspect)
