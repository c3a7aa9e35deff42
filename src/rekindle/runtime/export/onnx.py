"""PyTorch archive → ONNX file, once: cached by content, checked against torch on probe inputs."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rekindle import _config
from rekindle._errors import ModelError, UnsupportedOperatorError
from rekindle._log import warn_once
from rekindle._types import TensorSpec
from rekindle.runtime import providers
from rekindle.runtime._options import Options
from rekindle.runtime.export import archive as archives
from rekindle.runtime.export import probe
from rekindle.runtime.export.archive import Archive
from rekindle.runtime.export.traced_inputs import Sample
from rekindle.runtime.framework import Framework
from rekindle.runtime.selection import sha256

_OPSET = 18
_TOLERANCE = 1e-3
"""Largest allowed max|a - b| / max|b| between torch and the exported graph."""
_OPERATOR = re.compile(r"'?\b((?:aten|prim|prims|torchvision|quantized|[a-z_]+)::\w+)")


def to_onnx(path: Path, framework: Framework, given: Sequence[TensorSpec] | None = None) -> Path:
    """An ONNX file equal to the archive at `path`.

    The cache key is the file's sha256, the given shapes and the torch version; a cache that
    cannot be written leaves the file in a temporary folder. UnsupportedOperatorError names what
    cannot be exported; ModelError if the exported graph computes something else.
    """
    torch = archives.require_torch()
    key = hashlib.sha256(f"{sha256(path)} {given} {torch.__version__} {_OPSET}".encode())
    cached = _config.cache_dir() / "exported" / f"{key.hexdigest()[:40]}.onnx"
    if cached.is_file():
        return cached
    loaded = archives.load(path, framework)
    inputs, outputs, samples = probe.specify(loaded, given)
    folder = _writable(cached.parent)
    handle, partial = tempfile.mkstemp(dir=folder, suffix=".onnx")
    os.close(handle)
    try:
        _export(torch, loaded, Path(partial), inputs, outputs, samples)
        _compare(loaded, Path(partial), samples, inputs, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return Path(partial).replace(folder / cached.name)


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        warn_once(f"exported models are not cached in {folder}: {error}")
        return Path(tempfile.mkdtemp(prefix="rekindle-export-"))


def _export(
    torch: Any,
    loaded: Archive,
    target: Path,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    samples: Sequence[Sample],
) -> None:
    names = {
        "input_names": [s.name for s in inputs],
        "output_names": [s.name for s in outputs],
    }
    try:
        with _quiet():
            if isinstance(loaded.source, torch.export.ExportedProgram):
                torch.onnx.export(
                    loaded.source, f=str(target), external_data=False, verbose=False, **names
                )
            else:
                axes = {
                    s.name: {k: d for k, d in enumerate(s.shape) if isinstance(d, str)}
                    for s in (*inputs, *outputs)
                }
                torch.onnx.export(
                    loaded.source,
                    probe.tensors(samples),
                    str(target),
                    dynamo=False,
                    opset_version=_OPSET,
                    dynamic_axes=axes,
                    **names,
                )
    except Exception as error:  # the exporters raise their own classes and plain RuntimeError
        text = str(error)
        operators = sorted(set(_OPERATOR.findall(text)))
        named = ", ".join(operators) or (text.strip().splitlines() or ["unknown"])[0]
        raise UnsupportedOperatorError(
            f"this PyTorch model cannot be exported to ONNX: {named}",
            hint="run it with provider='torchscript'",
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters print and warn about themselves; what matters comes back as an error."""
    loggers = [logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _compare(
    loaded: Archive,
    exported: Path,
    samples: Sequence[Sample],
    inputs: Sequence[TensorSpec],
    path: Path,
) -> None:
    """Run torch and ONNX Runtime on the samples, and on a grown batch where that is dynamic."""
    backend = providers.REGISTRY.get("onnxruntime").open(exported, Options(), "export check")
    trials = [tuple(samples)]
    if any(isinstance(d, str) for spec in inputs for d in spec.shape[:1]):
        trials.append(tuple((d, (s[0] + 1, *s[1:])) if s else (d, s) for d, s in samples))
    for trial in trials:
        feeds = {spec.name: t.numpy() for spec, t in zip(inputs, probe.tensors(trial), strict=True)}
        expected = [t.numpy() for t in probe.run(loaded, trial)]
        for want, got in zip(expected, backend.run(feeds).values(), strict=True):
            scale = float(np.abs(want).max(initial=0.0)) or 1.0
            if want.shape != got.shape or float(np.abs(want - got).max(initial=0.0)) > (
                _TOLERANCE * scale
            ):
                raise ModelError(
                    f"the ONNX export of {path} does not compute what PyTorch computes",
                    hint="run it with provider='torchscript'",
                )
