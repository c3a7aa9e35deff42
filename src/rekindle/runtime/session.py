"""One `Session` over every engine."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from rekindle._errors import InputError, MemoryLimitError, RekindleError, UsageError
from rekindle._types import Dim, TensorSpec
from rekindle.graph.ir import Array, dtype_of
from rekindle.runtime._options import Options
from rekindle.runtime.placement import Placement
from rekindle.runtime.providers import Backend, Concurrent
from rekindle.runtime.stream import Lane, Stream, check_depth


@dataclass(frozen=True)
class Metadata:
    """The same facts for every framework and provider."""

    path: str
    framework: str
    """"onnx", "torchscript" or "torch.export"."""
    file_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int | None
    """Number of weights; None where the framework does not tell."""
    peak_device_bytes: int | None
    """Estimate: what the plan of our engine for the default OpenCL device takes, weights and
    activations, dynamic dimensions as 1. None where there is no device or no such plan."""
    provider: str
    optimization: str
    """What was done to the graph, in the provider's words."""

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        for key in ("inputs", "outputs"):
            data[key] = [
                {"name": s.name, "dtype": str(s.dtype), "shape": list(s.shape)}
                for s in getattr(self, key)
            ]
        return data


class Session:
    """A loaded model. Thread-safe; close it, or use it as a context manager."""

    def __init__(
        self, backend: Backend, path: Path, framework: str, options: Options, file_bytes: int
    ) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._closed = False
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._path, self._framework, self._file_bytes = path, framework, file_bytes
        self.options = options
        self.inputs: tuple[TensorSpec, ...] = backend.inputs
        self.outputs: tuple[TensorSpec, ...] = backend.outputs

    @functools.cached_property
    def metadata(self) -> Metadata:
        """Facts about the model; what the provider does not tell is read from an ONNX file."""
        parameters, peak = self._backend.parameters, self._backend.peak_device_bytes
        if self._framework == "onnx" and (parameters is None or peak is None):
            from rekindle.runtime.estimate import estimate

            estimated = estimate(self._path)
            parameters = estimated.parameters if parameters is None else parameters
            peak = estimated.peak_device_bytes if peak is None else peak
        return Metadata(
            str(self._path),
            self._framework,
            self._file_bytes,
            self.inputs,
            self.outputs,
            parameters,
            peak,
            self._backend.placement.provider,
            self._backend.optimization,
        )

    @property
    def placement(self) -> Placement:
        """What ran where and why; for dynamic shapes, that of the latest run."""
        return self._backend.placement

    @property
    def device_bytes(self) -> int | None:
        """Device memory held now, weights and activations; None where the engine hides it."""
        return self._backend.device_bytes

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once.

        `feeds` maps every input's name to an array of its dtype and shape (dynamic dimensions may
        take any size). Returns the outputs by name, in the model's order. InputError says which
        input is wrong, what was expected and what was given. NaN and infinity pass through.
        """
        return self._run(self._checked(feeds))

    def stream(self, items: Iterable[Mapping[str, Array]], *, depth: int = 2) -> Stream:
        """Run the model on input after input, at most `depth` of them under way at a time.

        An iterator over the outputs, in the order of `items`. Uploads, kernels, downloads and
        parts on the CPU of different inputs overlap; each of the `depth` has its own activations
        on the device (MemoryLimitError where they do not fit beside each other), weights are
        shared. Providers that run one input at a time still work while the caller does.
        An error of one input is raised at its place, and the stream goes on behind it. Do not
        change an input's arrays before its result is there.

            with session.stream({"x": frame} for frame in frames) as results:
                for outputs in results: ...
        """
        check_depth(depth)
        if self._closed:
            raise _closed()
        if not isinstance(items, Iterable):
            raise UsageError(f"a stream needs an iterable of inputs, got {type(items).__name__}")
        lanes: Sequence[Lane] = [self._run]
        if isinstance(self._backend, Concurrent):
            lanes = self._backend.lanes(depth)
        made = Stream(items, self._checked, lanes, depth)
        self._streams.add(made)
        return made

    def _checked(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        checked = {spec.name: _check(spec, feeds) for spec in self.inputs}
        if unknown := feeds.keys() - checked.keys():
            raise InputError(
                f"unknown input {', '.join(sorted(unknown))}",
                hint=f"the model's inputs are {', '.join(checked) or 'none'}",
            )
        return checked

    def _run(self, checked: Mapping[str, Array]) -> dict[str, Array]:
        with self._lock:
            if self._closed:
                raise _closed()
            try:
                return self._backend.run(checked)
            except MemoryError as error:
                raise MemoryLimitError(
                    f"the host has no memory for a value of the model: {error}",
                    hint="use a smaller batch or model",
                ) from error

    def close(self) -> None:
        """End the streams and give the memory back; closing twice is fine."""
        for stream in list(self._streams):
            stream.close(_closed())
        with self._lock:
            if not self._closed:
                self._closed = True
                self._backend.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session {self.metadata.path}: {self.placement.summary}>"


def _closed() -> RekindleError:
    return RekindleError("the session is closed", hint="open a new one")


def _check(spec: TensorSpec, feeds: Mapping[str, Array]) -> Array:
    if spec.name not in feeds:
        raise InputError(f"input {spec.name} is missing", hint=f"expected {spec}")
    array = np.asarray(feeds[spec.name])
    try:
        dtype = dtype_of(array)
    except ValueError:
        raise InputError(
            f"input {spec.name}: dtype {array.dtype} is none that models use",
            hint=f"expected {spec}",
        ) from None
    if dtype is not spec.dtype:
        raise InputError(
            f"input {spec.name}: expected dtype {spec.dtype}, got {dtype}",
            hint=f"convert it with .astype({str(spec.dtype)!r})",
        )
    if array.ndim != len(spec.shape):
        raise InputError(
            f"input {spec.name}: expected rank {len(spec.shape)} {_show(spec.shape)}, "
            f"got rank {array.ndim} {_show(array.shape)}"
        )
    pairs = zip(spec.shape, array.shape, strict=True)
    if any(isinstance(want, int) and want != got for want, got in pairs):
        raise InputError(
            f"input {spec.name}: expected shape {_show(spec.shape)}, got {_show(array.shape)}"
        )
    return array


def _show(shape: tuple[Dim, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
