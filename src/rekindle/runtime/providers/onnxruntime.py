"""ONNX Runtime, on the best execution provider that is installed.

Preference, best first: CUDA, MIGraphX, ROCm, DirectML, OpenVINO, CoreML, WebGPU, CPU;
REKINDLE_EXECUTION_PROVIDERS (comma-separated) overrides it. The CPU provider is always last in
the list, since ONNX Runtime needs it for what the others lack; `strict` forbids that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from rekindle import _config
from rekindle._errors import InputError, ModelError, UnsupportedOperatorError, UsageError
from rekindle._types import DType, TensorSpec
from rekindle.graph import onnx_io
from rekindle.graph.ir import Array, Graph
from rekindle.runtime._options import Options
from rekindle.runtime.placement import Placement
from rekindle.runtime.providers import Provider, register

PREFERENCE = (
    "CUDAExecutionProvider",
    "MIGraphXExecutionProvider",
    "ROCMExecutionProvider",
    "DmlExecutionProvider",
    "OpenVINOExecutionProvider",
    "CoreMLExecutionProvider",
    "WebGpuExecutionProvider",
    "CPUExecutionProvider",
)
_CPU = PREFERENCE[-1]
_DTYPES = {"float": DType.FLOAT32, "double": DType.FLOAT64, "string": DType.STRING}


class OnnxRuntimeBackend:
    """A model in ONNX Runtime."""

    parameters: int | None = None
    peak_device_bytes: int | None = None
    device_bytes: int | None = None
    optimization = "ONNX Runtime: ORT_ENABLE_ALL"

    def __init__(self, session: ort.InferenceSession, reason: str) -> None:
        self._session = session
        self.inputs = tuple(_spec(v) for v in session.get_inputs())
        self.outputs = tuple(_spec(v) for v in session.get_outputs())
        used = session.get_providers()
        self.placement = Placement("onnxruntime", ", ".join(used), reason)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        names = [spec.name for spec in self.outputs]
        try:
            results = self._session.run(names, dict(feeds))
        except Exception as error:  # ONNX Runtime's own errors share no public base
            raise InputError(f"ONNX Runtime could not run the model: {error}") from error
        return dict(zip(names, results, strict=True))

    def lanes(self, count: int) -> Sequence[Callable[[Mapping[str, Array]], dict[str, Array]]]:
        """ONNX Runtime's sessions may be called from several threads."""
        return [self.run] * count

    def close(self) -> None:
        del self._session


class CpuPart:
    """A graph on ONNX Runtime's CPU provider, from arrays to arrays.

    `graph` must be one that `onnx_io.save` can write. UnsupportedOperatorError or ModelError where
    ONNX Runtime does not take it.
    """

    def __init__(self, graph: Graph, threads: int | None = None) -> None:
        self._names = graph.inputs
        self._outputs = list(graph.outputs)
        # Through a file, since a message ends at 2 GB; mapped weights outlive their directory.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "part.onnx"
            onnx_io.save(graph, path)
            try:
                self._session = ort.InferenceSession(
                    str(path), _settings(threads), providers=[_CPU]
                )
            except Exception as error:  # ONNX Runtime's own errors share no public base
                raise _translate(error, path) from error

    def __call__(self, inputs: Sequence[Array | None]) -> Sequence[Array]:
        """Inputs and outputs in the graph's order."""
        feeds = dict(zip(self._names, inputs, strict=True))
        try:
            return list(self._session.run(self._outputs, feeds))
        except Exception as error:  # ONNX Runtime's own errors share no public base
            raise InputError(f"ONNX Runtime could not run its part: {error}") from error


def execution_providers() -> list[str]:
    """Installed execution providers in the order they are asked for."""
    installed = ort.get_available_providers()
    if wanted := _config.read("REKINDLE_EXECUTION_PROVIDERS"):
        names = [name.strip() for name in wanted.split(",")]
        if missing := [name for name in names if name not in installed]:
            raise UsageError(
                f"REKINDLE_EXECUTION_PROVIDERS names {', '.join(missing)}, which this ONNX "
                "Runtime does not have",
                hint=f"installed: {', '.join(installed)}",
            )
        return names if _CPU in names else [*names, _CPU]
    return [name for name in PREFERENCE if name in installed]


def _open(path: Path, options: Options, reason: str) -> OnnxRuntimeBackend:
    options.refuse("onnxruntime", "device", "memory_limit_bytes")
    options.refuse_precision("onnxruntime")
    settings = _settings(options.threads)
    providers = execution_providers()
    if options.strict and providers[0] != _CPU:
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        providers = [name for name in providers if name != _CPU]
    try:
        session = ort.InferenceSession(str(path), settings, providers=providers)
    except Exception as error:  # ONNX Runtime's own errors share no public base
        raise _translate(error, path) from error
    return OnnxRuntimeBackend(session, reason)


def _settings(threads: int | None) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    if threads:
        settings.intra_op_num_threads = threads
    return settings


def _translate(error: Exception, path: Path) -> ModelError:
    text = str(error)
    if "NOT_IMPLEMENTED" in text or "is not a registered function" in text:
        return UnsupportedOperatorError(f"ONNX Runtime has no kernel for {path}: {text}")
    return ModelError(f"ONNX Runtime could not load {path}: {text}")


def _spec(value: Any) -> TensorSpec:
    kind = str(value.type)
    if not kind.startswith("tensor("):
        raise ModelError(f"{value.name} is a {kind}; only tensors are supported")
    word = kind[len("tensor(") : -1]
    shape = tuple(
        d if isinstance(d, int) else str(d or f"{value.name}_{k}")
        for k, d in enumerate(value.shape)
    )
    return TensorSpec(value.name, _DTYPES.get(word) or DType(word), shape)


register("onnxruntime", Provider(frameworks=("onnx",), open=_open))
