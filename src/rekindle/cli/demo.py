"""`rekindle demo`: a real network names a real photo, on OpenCL and on ONNX Runtime."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rekindle._errors import DeviceError, MissingExtraError
from rekindle.cli._commands import Outcome, commands
from rekindle.cli._options import DEFAULT_MODEL
from rekindle.cli._page import Page, amount, memory, milliseconds, percent, plain, table, working
from rekindle.cli.devices import device_facts

if TYPE_CHECKING:
    from rekindle.device import Device
    from rekindle.hub.card import ModelCard
    from rekindle.tasks.classify import Label

_WARMUP, _REPEATS = 5, 40
_TOLERANCE = 1e-3
"""Agreement of two engines: largest difference over largest value (the design, section 5)."""


@dataclass(frozen=True)
class _Named:
    """What one engine said, and how long it takes (median of the repeats)."""

    provider: str
    device: str
    labels: tuple[Label, ...]
    p50_ms: float
    difference: float
    """Largest difference to the first engine's outputs, over their largest value."""


def demo(
    photo: Annotated[
        Path | None, typer.Option("--photo", help="Your own photo instead of the cat's.")
    ] = None,
) -> Outcome:
    """Show the whole way once: devices, model, photo, its name on two engines, both timed here."""
    picture = photo or _chelsea()
    from rekindle.hub import resolve
    from rekindle.images import decode

    resolved = resolve(DEFAULT_MODEL)
    assert resolved.card is not None
    height, width, _ = decode(picture).shape
    device, problem = _device()
    with working("two engines look at the photo" if device else "the engine looks at the photo"):
        named = _name(resolved.path, resolved.card, picture, with_opencl=device is not None)
    agree, model = _agree(named), _model_facts(resolved.path, resolved.card)
    document = {
        "device": device_facts(device) if device else None,
        "opencl_problem": problem,
        "model": model,
        "photo": {"path": picture, "width": width, "height": height},
        "results": [vars(n) | {"labels": [vars(label) for label in n.labels]} for n in named],
        "repeats": _REPEATS,
        "agree": agree,
    }

    def draw(page: Page) -> None:
        _draw_devices(page, device, problem)
        _draw_model(page, model)
        page.heading("Photo")
        note = "" if photo else " (Chelsea the cat by Stefan van der Walt, CC0, from scikit-image)"
        page.line(f"{picture.name}, {width}x{height}{note}", indent=2)
        _draw_results(page, named, agree)
        _draw_next(page, problem)

    return Outcome(document, draw, 1 if agree is False else 0)


def _chelsea() -> Path:
    """The photo in scikit-image's wheel, found without importing scikit-image."""
    spec = importlib.util.find_spec("skimage")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "data" / "chelsea.png"
        if path.is_file():
            return path
    raise MissingExtraError(
        "the demo's photo comes with scikit-image, which is not installed",
        hint='pip install "rekindle[demo]", or use your own: rekindle demo --photo FILE',
    )


def _device() -> tuple[Device | None, str | None]:
    """The OpenCL device that is used by default; None and the reason where there is none."""
    from rekindle.device import select_device

    try:
        return select_device(), None
    except DeviceError as error:
        return None, error.message


def _name(path: Path, card: ModelCard, picture: Path, *, with_opencl: bool) -> list[_Named]:
    from rekindle.runtime.benchmark import benchmark
    from rekindle.tasks.classify import open_classifier

    providers = ["opencl", "onnxruntime"] if with_opencl else ["onnxruntime"]
    labels = []
    for provider in providers:
        with open_classifier(path, card=card, provider=provider) as classifier:
            (result,) = classifier.stream([picture], top=3)
            if result.error:
                raise result.error
            labels.append(result.labels)
            feeds = {classifier.input.name: classifier.prepare(picture)}
    report = benchmark(path, providers, feeds=feeds, warmup=_WARMUP, repeats=_REPEATS)
    return [
        _Named(r.provider, r.device, names, r.p50_ms, r.max_relative_difference)
        for r, names in zip(report.results, labels, strict=True)
    ]


def _agree(named: list[_Named]) -> bool | None:
    """Whether the engines say the same; None where there is only one."""
    if len(named) < 2:
        return None
    same = len({n.labels[0].index for n in named}) == 1
    return same and all(n.difference <= _TOLERANCE for n in named)


def _model_facts(path: Path, card: ModelCard) -> dict[str, Any]:
    return {
        "name": card.name,
        "version": card.version,
        "licence": card.licence,
        "file_bytes": path.stat().st_size,
        "classes": card.labels,
        "measured": [vars(m) for m in card.measured],
    }


def _draw_devices(page: Page, device: Device | None, problem: str | None) -> None:
    from rekindle.device import list_devices

    page.heading("Devices")
    for found in list_devices():
        chosen = device is not None and found.index == device.index
        text = f"{found}, {found.compute_units} compute units, {memory(found.global_bytes)}"
        page.line("* " if chosen else "  ", text, style="bold" if chosen else "dim", indent=2)
    if problem:
        page.line(f"{problem}: the demo runs on ONNX Runtime alone.", style="yellow", indent=2)


def _draw_model(page: Page, model: dict[str, Any]) -> None:
    page.heading("Model")
    size = amount(model["file_bytes"], "B")
    page.line(f"{model['name']} {model['version']}, {size}, licence {model['licence']}", indent=2)
    for measured in model["measured"]:
        spread = ""
        if measured["interval"]:
            low, high = measured["interval"]
            spread = f" ({low:.1%} to {high:.1%})"
        text = f"{measured['metric']} {measured['value']:.1%}{spread} on {measured['dataset']}"
        page.line(text, indent=2)
    page.line(f"It knows {len(model['classes'])} classes: {', '.join(model['classes'])}.", indent=2)


def _draw_results(page: Page, named: list[_Named], agree: bool | None) -> None:
    page.heading("What it sees")
    made = table("", "engine", "device", "label", "score", "latency", numbers=("score", "latency"))
    for result in named:
        best = result.labels[0]
        made.add_row(
            "",
            result.provider,
            plain(result.device),
            plain(best.name),
            percent(best.score),
            milliseconds(result.p50_ms),
        )
    page.draw(made)
    page.line(f"Latency: median of {_REPEATS} runs, measured just now, engines in turn.", indent=2)
    if agree is not None:
        word = "The engines agree" if agree else "THE ENGINES DISAGREE"
        text = f"{word}: largest relative difference of the outputs {named[-1].difference:.1e}."
        page.line(text, style="green" if agree else "bold red", indent=2)


def _draw_next(page: Page, problem: str | None) -> None:
    steps = [
        ("rekindle classify YOUR_PHOTO.jpg", "your own photo; a folder works too"),
        (f"rekindle inspect {DEFAULT_MODEL}", "what the network consists of, what runs where"),
        (f"rekindle bench {DEFAULT_MODEL}", "a careful measurement"),
    ]
    doctor = ("rekindle doctor", "why there is no OpenCL here, and the command that mends it")
    page.next_steps([doctor, *steps] if problem else steps)


commands.register("demo", demo)
