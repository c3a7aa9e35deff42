"""Open a PyTorch archive without running a stranger's pickled code.

TorchScript's own unpickler (C++) knows tensors and TorchScript classes only. A torch.export
archive is JSON and raw weights, but may carry pickled custom objects, and symbolic expressions
that torch hands to SymPy's evaluating parser: both are looked at before torch sees the file.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rekindle._errors import MissingExtraError, ModelError
from rekindle._types import DType
from rekindle.runtime.export import traced_inputs
from rekindle.runtime.export.expressions import is_arithmetic
from rekindle.runtime.export.traced_inputs import Sample
from rekindle.runtime.framework import Framework


@dataclass(frozen=True)
class Archive:
    """A loaded network. `samples` are the shapes it was made with, where it tells."""

    module: Callable[..., Any]
    """Takes and gives torch tensors; in evaluation mode."""
    source: Any
    """The ScriptModule or ExportedProgram, for exporters."""
    input_names: tuple[str, ...]
    samples: tuple[Sample, ...] | None
    dynamic: tuple[tuple[int, ...], ...] | None
    """Per input, the axes declared dynamic; None where the archive does not say (TorchScript)."""
    parameters: int


def require_torch() -> Any:
    """The torch module, or MissingExtraError with the command that installs it."""
    try:
        import torch
    except ImportError:
        raise MissingExtraError(
            "this model needs PyTorch, which is not installed",
            hint="pip install 'rekindle[torch]'",
        ) from None
    return torch


def load(path: Path, framework: Framework) -> Archive:
    """Open a TorchScript or torch.export archive; ModelError where it cannot be."""
    torch = require_torch()
    if framework == "torch.export":
        _inspect_exported(path)
    try:
        if framework == "torchscript":
            return _script(torch, path)
        return _exported(torch, path)
    except ModelError:
        raise
    except Exception as error:  # torch raises RuntimeError, AssertionError, KeyError, … on damage
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"PyTorch {torch.__version__} could not open {path}: {first}",
            hint="save it again with this PyTorch, or export it to ONNX where it was made",
        ) from error


def _script(torch: Any, path: Path) -> Archive:
    module = torch.jit.load(str(path), map_location="cpu").eval()
    arguments = [a for a in module.forward.schema.arguments[1:] if not a.has_default_value()]
    for argument in arguments:
        if str(argument.type) != "Tensor":
            raise ModelError(
                f"{path}: input {argument.name} is a {argument.type}; only tensors are supported"
            )
    names = tuple(a.name for a in arguments)
    samples = traced_inputs.read(path)
    if samples is not None and len(samples) != len(names):
        samples = None
    count = sum(p.numel() for p in module.parameters())
    return Archive(module, module, names, samples, None, count)


def _exported(torch: Any, path: Path) -> Archive:
    program = torch.export.load(str(path))
    names = tuple(program.graph_signature.user_inputs)
    tensors = {
        node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"
    }
    samples, dynamic = [], []
    examples = dict(
        zip(names, program.example_inputs[0] if program.example_inputs else (), strict=False)
    )
    for name in names:
        value = tensors.get(name)
        if not isinstance(value, torch.Tensor):
            raise ModelError(f"{path}: input {name} is not a tensor; only tensors are supported")
        shape = examples[name].shape if name in examples else value.shape
        samples.append((_dtype(value.dtype), tuple(int(d) for d in shape)))
        dynamic.append(tuple(k for k, d in enumerate(value.shape) if not isinstance(d, int)))
    count = sum(p.numel() for p in program.parameters())
    return Archive(program.module(), program, names, tuple(samples), tuple(dynamic), count)


def _dtype(dtype: Any) -> DType:
    return DType(str(dtype).removeprefix("torch."))


def _inspect_exported(path: Path) -> None:
    """Refuse pickled objects and expressions that are more than arithmetic."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if "custom_obj" in name:
                raise ModelError(
                    f"{path} carries a pickled object ({name}); such archives are refused",
                    hint="export the model without custom objects",
                )
            if name.endswith(".json"):
                try:
                    document = json.loads(archive.read(name))
                except ValueError as error:
                    raise ModelError(f"{path}: {name} is not JSON: {error}") from error
                for text in _expressions(document):
                    if not is_arithmetic(text):
                        raise ModelError(f"{path}: the symbolic size {text[:80]!r} is refused")


def _expressions(document: Any) -> Iterator[str]:
    """Every string under a key `expr_str`, which torch would give to SymPy's parser."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key == "expr_str" and isinstance(value, str):
                yield value
            else:
                yield from _expressions(value)
    elif isinstance(document, list):
        for item in document:
            yield from _expressions(item)
