"""`rekindle client infer`: a server's model on arrays."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rekindle.cli._commands import Outcome
from rekindle.cli._options import FILES, OutputOption, SizesOption
from rekindle.cli._page import Page, milliseconds, plain, table
from rekindle.cli.client._connection import register

if TYPE_CHECKING:
    from rekindle._types import TensorSpec
    from rekindle.serve.client import Client


def infer(
    client: Client,
    model: Annotated[str, typer.Argument(help="Its name on the server.")],
    given: Annotated[list[str], FILES],
    version: Annotated[
        str, typer.Option("--version", help="A version; the newest where none is named.")
    ] = "",
    output: OutputOption = None,
    shape: SizesOption = None,
) -> Outcome:
    """Send arrays to a model of the server, and say what came back."""
    from rekindle.cli._arrays import describe, parse_sizes, read_arrays, save_outputs
    from rekindle.serve.client.specs import spec_of, specs_of

    inputs = specs_of(client.metadata(model, version)["inputs"])
    feeds = read_arrays(inputs, given, parse_sizes(shape or []))
    start = time.perf_counter()
    ran, outputs = client.infer(model, feeds, version)
    round_trip_ms = (time.perf_counter() - start) * 1e3
    if output:
        save_outputs(output, outputs)
    facts = [describe(spec_of(name, array), array) for name, array in outputs.items()]
    document = {
        "url": str(client.endpoint), "model": model, "version": ran,
        "round_trip_ms": round_trip_ms, "outputs": facts, "saved": output,
    }  # fmt: skip

    def draw(page: Page) -> None:
        _draw(page, document, inputs)

    return Outcome(document, draw)


def _draw(page: Page, document: dict[str, Any], inputs: tuple[TensorSpec, ...]) -> None:
    numbers = ("min", "mean", "max", "NaN or infinite")
    made = table("output", "dtype", "shape", *numbers, numbers=numbers)
    for facts in document["outputs"]:
        figures = (facts.get(key) for key in ("min", "mean", "max"))
        made.add_row(
            plain(facts["name"]),
            facts["dtype"],
            "x".join(map(str, facts["shape"])) or "scalar",
            *("" if value is None else f"{value:.5g}" for value in figures),
            str(facts.get("not_finite", "")),
        )
    page.draw(made)
    page.blank()
    page.line(
        f"{document['model']} version {document['version'] or '-'} at {document['url']}: "
        f"{milliseconds(document['round_trip_ms'])} there and back"
    )
    page.line(f"inputs: {', '.join(map(str, inputs))}", style="dim")
    if document["saved"]:
        page.line(f"saved: {document['saved']}")


register("infer", infer)
