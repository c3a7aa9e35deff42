"""`rekindle bench`: how fast a model is on each engine, and whether the engines agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rekindle._errors import UsageError
from rekindle.cli._commands import Outcome, commands
from rekindle.cli._options import (
    FastOption,
    MemoryLimitOption,
    ModelArgument,
    PrecisionOption,
    UltraFastOption,
    check_precision,
    check_provider,
)
from rekindle.cli._page import Page, memory, plain, table, working

if TYPE_CHECKING:
    from rekindle.runtime.benchmark import BenchmarkReport


def bench(
    model: ModelArgument,
    provider: Annotated[
        str, typer.Option("--provider", "-p", help="Engines to measure, separated by commas.")
    ] = "opencl,onnxruntime",
    batch: Annotated[
        int | None, typer.Option("--batch", "-b", min=1, help="First dimension of the inputs.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="NAME=SIZE", help="Size of another dynamic dimension."),
    ] = None,
    memory_limit: MemoryLimitOption = None,
    precision: PrecisionOption = None,
    fast: FastOption = False,
    ultra_fast: UltraFastOption = False,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Runs that do not count.")] = 5,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Runs that count.")] = 50,
) -> Outcome:
    """Measure a model on several engines in turn, on the same random input, and compare outputs."""
    providers = _providers(provider)
    from rekindle.cli._arrays import parse_sizes
    from rekindle.runtime.benchmark import benchmark

    sizes = _sizes(model, providers[0], parse_sizes(shape or []), batch)
    with working(f"measuring {model}"):
        report = benchmark(
            model,
            providers,
            sizes=sizes,
            warmup=warmup,
            repeats=repeats,
            memory_limit=memory_limit,
            precision=check_precision(precision, fast, ultra_fast),
        )

    def draw(page: Page) -> None:
        _draw(page, report)

    return Outcome(report.to_dict(), draw)


def _providers(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("--provider names no engine", hint="--provider opencl,onnxruntime")
    return [check_provider(name) for name in names]


def _sizes(model: str, provider: str, sizes: dict[str, int], batch: int | None) -> dict[str, int]:
    """Sizes of all dynamic dimensions; the first of each input is the batch (1 if not given)."""
    from rekindle.cli._arrays import check_sizes
    from rekindle.runtime import open_session

    with open_session(model, provider=provider) as session:
        specs = session.inputs
    firsts = {spec.shape[0] for spec in specs if spec.shape}
    if batch and any(isinstance(dim, int) and dim != batch for dim in firsts):
        raise UsageError(
            f"--batch {batch}: the model's batch is fixed: {', '.join(map(str, specs))}",
            hint="leave --batch out, or export the model with a dynamic first dimension",
        )
    named = {dim: batch for dim in firsts if isinstance(dim, str)} if batch else {}
    check_sizes(specs, sizes | named, all_needed=True)
    return sizes | named


def _draw(page: Page, report: BenchmarkReport) -> None:
    numbers = ("p50 ms", "p95 ms", "p99 ms", "per second", "difference", "same answer")
    made = table("engine", "device", *numbers, "memory", numbers=(*numbers, "memory"))
    fastest = min(report.results, key=lambda result: result.p50_ms)
    for place, result in enumerate(report.results):
        agreement: tuple[Any, ...] = ("reference", "")
        if place:
            agreement = (f"{result.max_relative_difference:.1e}", f"{result.argmax_agreement:.0%}")
        made.add_row(
            result.provider,
            plain(result.device),
            f"{result.p50_ms:.3f}",
            f"{result.p95_ms:.3f}",
            f"{result.p99_ms:.3f}",
            f"{result.throughput_s:,.1f}",
            *agreement,
            "" if result.device_bytes is None else memory(result.device_bytes),
            style="bold" if result is fastest else None,
        )
    page.draw(made)
    shapes = ", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in report.shapes.items())
    page.blank()
    page.line(f"{report.repeats} runs each after {report.warmup} to warm up, in turn; {shapes}")
    for result in report.results:
        if result.streamed_bytes:
            sent = memory(result.streamed_bytes)
            page.line(f"{result.provider} streams {sent} of weights in each run", style="yellow")
    if len(report.results) > 1 and report.memory_limit is None and report.precision == "model":
        page.line(f"{fastest.provider} is the fastest; `auto` remembers that for this model.")
    page.next_steps([(f"rekindle inspect {report.model}", "what it consists of, what runs where")])


commands.register("bench", bench)
