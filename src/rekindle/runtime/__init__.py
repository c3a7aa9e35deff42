"""One `Session` over every engine: our OpenCL engine, ONNX Runtime, PyTorch, the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rekindle._errors import ModelError
from rekindle._types import TensorSpec
from rekindle.runtime import _options, providers
from rekindle.runtime._options import SessionArguments
from rekindle.runtime.framework import Framework, detect
from rekindle.runtime.session import Metadata, Session

__all__ = ["Metadata", "Session", "SessionArguments", "open_session"]


def open_session(
    model: str | Path,
    *,
    provider: str = "auto",
    device: str | int | None = None,
    precision: str = "model",
    strict: bool = False,
    memory_limit: int | str | None = None,
    threads: int | None = None,
    inputs: Sequence[TensorSpec] | None = None,
) -> Session:
    """Open a model for running.

    model: a path to an ONNX file, a TorchScript archive or a torch.export archive (told from the
        content), a model folder with a card, or the name of a bundled model.
    provider: `opencl`, `hybrid` (the OpenCL device and the CPU together), `onnxruntime`,
        `torchscript`, `reference`, or `auto`: the one measured fastest on this machine for this
        model, else `opencl` where there is a device, else ONNX Runtime. The choice and
        its reason stand in `session.placement`.
    device: which OpenCL device, by index or part of its name; None takes the best one.
    precision: how the `opencl` provider stores weights and values; arithmetic is float32, inputs
        and outputs keep their dtypes. `model`: as the file has them, quantised weights included;
        `fp32`; `fp16`; and with half-precision values `bf16w`: bfloat16 weights, `int8w`: 8 bits
        and a scale for each output channel, `int4w`: 4 bits and a scale for each 32 inputs of a
        product (8 bits in convolutions). The other providers have `model` and `fp32`.
    strict: refuse to run any node on the host instead of the device.
    memory_limit: device memory in bytes, or text such as "2GB". Weights that do not fit are
        streamed from host memory in every run (`session.placement.streaming` tells the cost, the
        results are the same bit for bit); a model that cannot run even so is refused before
        loading. None: what the device has.
    threads: CPU threads, for the providers that have such a setting.
    inputs: specifications of the inputs, for a PyTorch archive that does not tell its shapes;
        None takes the archive's, the model card's, or what probe runs find.

    An argument that the provider cannot honour raises; nothing is ignored. Errors are
    RekindleErrors: NotFoundError, ModelError, UnsupportedOperatorError, MemoryLimitError,
    DeviceError, UsageError.
    """
    options = _options.check(device, precision, strict, memory_limit, threads)
    path, card_inputs = _locate(model)
    given = tuple(inputs) if inputs else card_inputs
    options = replace(options, inputs=given)
    framework = detect(path)
    name, reason = provider, "asked for"
    if provider == "auto":
        name, reason = _automatic(path, framework, options)
    chosen = providers.REGISTRY.get(name)
    source = path if framework in chosen.frameworks else _convert(path, framework, name, given)
    backend = chosen.open(source, options, reason)
    return Session(backend, path, framework, options, path.stat().st_size)


def _automatic(path: Path, framework: Framework, options: _options.Options) -> tuple[str, str]:
    """What `auto` stands for, and why: what only OpenCL can honour, else what is fastest."""
    from rekindle.runtime.selection import choose

    if options.device is not None:
        return "opencl", "its device was asked for"
    if options.memory_limit_bytes is not None:
        return "opencl", "a memory limit was asked for"
    if options.precision not in ("model", "fp32"):
        return "opencl", f"precision {options.precision} was asked for"
    return choose(path, framework)


def _locate(model: str | Path) -> tuple[Path, tuple[TensorSpec, ...] | None]:
    """The model's file, and the inputs its card declares where it has a card."""
    from rekindle.hub import resolve

    resolved = resolve(str(model))
    specs = tuple(t.spec for t in resolved.card.inputs) if resolved.card else ()
    return resolved.path, specs or None


def _convert(
    path: Path, framework: Framework, provider: str, inputs: Sequence[TensorSpec] | None
) -> Path:
    """An ONNX file made from a PyTorch archive, for providers that only open ONNX."""
    if framework == "onnx":
        raise ModelError(
            f"the {provider} provider does not open ONNX files",
            hint="use provider='opencl' or 'onnxruntime'",
        )
    from rekindle.runtime.export.onnx import to_onnx

    return to_onnx(path, framework, inputs)
