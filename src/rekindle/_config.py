"""Every environment variable Rekindle reads, in one table; the docs page is generated from it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rekindle._errors import UsageError


@dataclass(frozen=True)
class Variable:
    """One environment variable: its name, its default in words, and what it does."""

    name: str
    default: str
    meaning: str


VARIABLES = (
    Variable(
        "REKINDLE_DEBUG",
        "0",
        "1: tracebacks instead of one red line; 2: passes and placement; 3: kernel sources; "
        "4: launches with sizes; 5: everything.",
    ),
    Variable(
        "REKINDLE_PROVIDER",
        "unset",
        "Provider that `auto` resolves to: opencl, hybrid, onnxruntime, torchscript, reference.",
    ),
    Variable("REKINDLE_DEVICE", "unset", "Default OpenCL device: an index or part of its name."),
    Variable(
        "REKINDLE_CACHE_DIR",
        "the user's cache folder (`~/.cache/rekindle`)",
        "Where compiled kernels, tuning records and exported models are kept. Unwritable: works "
        "without cache.",
    ),
    Variable(
        "REKINDLE_API_KEY",
        "unset",
        "The key that `rekindle client` shows to a server; never printed. Better here than in "
        "`--api-key`, which other users of the machine can read while the command runs.",
    ),
    Variable(
        "REKINDLE_TEST_DATA",
        "unset",
        "Folder with real data for opt-in tests and benchmarks; unset: they are skipped.",
    ),
    Variable(
        "REKINDLE_DISABLE_KERNELS",
        "unset",
        "Comma-separated names of kernels that must not be chosen, because this driver gets them "
        "wrong; `rekindle verify --kernels` lists them all and says which.",
    ),
    Variable(
        "REKINDLE_IGNORE_TUNING",
        "0",
        "1: plan by the heuristics alone, whatever `rekindle tune` has found.",
    ),
    Variable(
        "REKINDLE_MAX_PIXELS",
        "100000000",
        "Pictures with more pixels than this are refused before they are decoded.",
    ),
    Variable(
        "REKINDLE_KEEP_AFFINITY",
        "0",
        "1: leave POCL_AFFINITY alone (it is otherwise set to 1 before the first OpenCL call, "
        "or PoCL's workers may share one core).",
    ),
    Variable(
        "REKINDLE_NO_WALK",
        "0",
        "1: launch every kernel by itself on PoCL, too, where one launch otherwise walks through "
        "a whole run.",
    ),
    Variable(
        "REKINDLE_EXECUTION_PROVIDERS",
        "unset",
        "Comma-separated ONNX Runtime execution providers, best first, instead of the "
        "documented preference.",
    ),
    Variable(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "unset",
        "Where `rekindle serve` sends traces, as in `http://127.0.0.1:4318`; `--otlp-endpoint` "
        "goes first. OpenTelemetry's own variables (sampling, headers, ...) work, too.",
    ),
    Variable(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "unset", "The same, as the whole address for traces."
    ),
    Variable("OTEL_SDK_DISABLED", "unset", "true: no traces, whatever else is set."),
    Variable("OTEL_SERVICE_NAME", "rekindle", "The server's name in traces."),
    Variable(
        "REKINDLE_REQUIRE_TOOLS",
        "0",
        "1: a test that lacks its tool (a second OpenCL front-end, say) fails instead of "
        "skipping. Set by CI.",
    ),
)
_DEFAULT_MAX_PIXELS = 100_000_000


def read(name: str) -> str | None:
    """Value of a declared variable; empty counts as unset."""
    if name not in {v.name for v in VARIABLES}:
        raise KeyError(f"{name} is not declared in rekindle._config.VARIABLES")
    return os.environ.get(name) or None


def read_int(name: str, default: int) -> int:
    """Whole-number value of a declared variable; UsageError names the variable otherwise."""
    text = read(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        raise UsageError(
            f"{name}={text!r} is not a whole number", hint=f"set {name} to a number or unset it"
        ) from None


def debug_level() -> int:
    return read_int("REKINDLE_DEBUG", 0)


def flag(name: str) -> bool:
    return read(name) not in (None, "0")


def disabled_kernels() -> tuple[str, ...]:
    """Names in REKINDLE_DISABLE_KERNELS, as they are written; planning checks that they exist."""
    names = (name.strip() for name in (read("REKINDLE_DISABLE_KERNELS") or "").split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def prepend_path(folder: Path) -> None:
    """Look for programs in `folder` first, in this process and those it starts."""
    os.environ["PATH"] = os.pathsep.join((str(folder), os.environ.get("PATH", os.defpath)))


def confine_gradio(uploads: Path) -> None:
    """Gradio reports to nobody and keeps uploads in a folder of ours; before it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)


def cache_dir() -> Path:
    """Folder for compiled kernels and exported models; may not exist or be writable."""
    if text := read("REKINDLE_CACHE_DIR"):
        return Path(text).expanduser()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "rekindle"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rekindle"


def max_pixels() -> int:
    return read_int("REKINDLE_MAX_PIXELS", _DEFAULT_MAX_PIXELS)


def environment() -> dict[str, str]:
    """A copy of the whole environment, for `rekindle doctor`: it looks at drivers' variables."""
    return dict(os.environ)
