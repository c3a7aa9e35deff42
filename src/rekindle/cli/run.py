"""`rekindle run`: a model once, on arrays."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rekindle.cli._commands import Outcome, commands
from rekindle.cli._options import (
    DeviceOption,
    FilesOption,
    MemoryLimitOption,
    ModelArgument,
    OutputOption,
    PrecisionOption,
    ProviderOption,
    SizesOption,
    check_precision,
    check_provider,
)
from rekindle.cli._page import Page, milliseconds, plain, table, working
from rekindle.cli._placement import draw_streaming, placement_facts

if TYPE_CHECKING:
    from rekindle.cli._arrays import Array
    from rekindle.runtime import Session


def run(
    model: ModelArgument,
    given: FilesOption = None,
    output: OutputOption = None,
    shape: SizesOption = None,
    provider: ProviderOption = "auto",
    device: DeviceOption = None,
    memory_limit: MemoryLimitOption = None,
    precision: PrecisionOption = None,
) -> Outcome:
    """Run a model once on arrays (random ones by default) and say what came out."""
    provider = check_provider(provider, device)
    from rekindle.cli._arrays import parse_sizes, read_feeds, save_outputs
    from rekindle.runtime import open_session

    sizes = parse_sizes(shape or [])
    with (
        working(f"running {model}"),
        open_session(
            model,
            provider=provider,
            device=device,
            memory_limit=memory_limit,
            precision=check_precision(precision),
        ) as session,
    ):
        feeds = read_feeds(session, given or ["random"], sizes)
        start = time.perf_counter()
        outputs = session.run(feeds)
        run_ms = (time.perf_counter() - start) * 1e3
        document = {"model": model, "run_ms": run_ms, **_facts(session, feeds, outputs)}
    if output:
        save_outputs(output, outputs)
    document["saved"] = output

    def draw(page: Page) -> None:
        _draw(page, document)

    return Outcome(document, draw)


def _facts(
    session: Session, feeds: Mapping[str, Array], outputs: Mapping[str, Array]
) -> dict[str, Any]:
    from rekindle.cli._arrays import describe

    return {
        **placement_facts(session),
        "inputs": [
            {"name": name, "dtype": array.dtype.name, "shape": array.shape}
            for name, array in feeds.items()
        ],
        "outputs": [describe(spec, outputs[spec.name]) for spec in session.outputs],
    }


def _draw(page: Page, document: dict[str, Any]) -> None:
    page.draw(_table(document))
    page.blank()
    page.line(
        f"{document['provider']} on {document['device']}, {milliseconds(document['run_ms'])} "
        "(the first run; later ones are faster)"
    )
    draw_streaming(page, document)
    if document["saved"]:
        page.line(f"saved: {document['saved']}")
    bench = f"rekindle bench {document['model']} --provider opencl,onnxruntime"
    page.next_steps([(bench, "how fast it really is")])


def _table(document: dict[str, Any]) -> Any:
    numbers = ("min", "mean", "max", "NaN or infinite")
    made = table("", "name", "dtype", "shape", *numbers, numbers=numbers)
    for kind in ("inputs", "outputs"):
        for facts in document[kind]:
            made.add_row(
                kind.removesuffix("s"),
                plain(facts["name"]),
                facts["dtype"],
                "x".join(map(str, facts["shape"])) or "scalar",
                *(_figure(facts.get(key)) for key in ("min", "mean", "max")),
                str(facts.get("not_finite", "")),
            )
    return made


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


commands.register("run", run)
