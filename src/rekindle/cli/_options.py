"""Arguments and options that several commands have."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer

from rekindle._errors import UsageError

DEFAULT_MODEL = "cifar10-resnet"
"""The classifier that comes with Rekindle."""

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model file or folder, or the name of a bundled model.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="A model file or folder, or a bundled model's name.")
]
CardOption = Annotated[
    Path | None,
    typer.Option("--card", metavar="FILE", help="Model card, for a model that has none."),
]
ProviderOption = Annotated[
    str,
    typer.Option(
        "--provider",
        "-p",
        help="What runs it: auto, opencl, hybrid, onnxruntime, torchscript, reference.",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", "-d", help="OpenCL device: its index, or part of its name."),
]

MemoryLimitOption = Annotated[
    str | None,
    typer.Option(
        "--memory-limit",
        metavar="BYTES",
        help="Device memory to stay within, such as 2GB; weights that do not fit are streamed.",
    ),
]
FILES = typer.Option(
    "--input",
    "-i",
    metavar="[NAME=]FILE",
    help="FILE.npy, FILE.npz with an array per input, or `random`. May be repeated.",
)
FilesOption = Annotated[list[str] | None, FILES]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Save the outputs into this .npz.")
]
SizesOption = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=SIZE", help="Size of a dynamic dimension."),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="How weights and values are stored on the OpenCL device: model, fp32, fp16, bf16w, "
        "int8w, int4w.",
        show_default=False,
    ),
]
FastOption = Annotated[
    bool, typer.Option("--fast", help="Store everything in half precision: --precision fp16.")
]
UltraFastOption = Annotated[
    bool, typer.Option("--ultra-fast", help="Store weights in eight bits: --precision int8w.")
]


def check_precision(given: str | None, fast: bool = False, ultra_fast: bool = False) -> str:
    """The precision to open with; UsageError where two are asked for."""
    asked = [
        name
        for name, wanted in ((given, given), ("fp16", fast), ("int8w", ultra_fast))
        if wanted and name
    ]
    if len(asked) > 1:
        raise UsageError(
            "more than one precision was asked for", hint="--precision, --fast or --ultra-fast"
        )
    return asked[0] if asked else "model"


def check_provider(name: str, device: str | None = None) -> str:
    """The provider to open: `auto` with a device means `opencl`, which alone has devices.

    UsageError with near names for a provider that does not exist.
    """
    from rekindle.runtime.providers import REGISTRY

    known = ("auto", *REGISTRY.names())
    if name in known:
        return "opencl" if name == "auto" and device else name
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
    raise UsageError(f"unknown provider {name!r}", hint=hint)
