"""ONNX's backend interface: `import rekindle.onnx_backend as backend; backend.prepare(model)`.

    session = backend.prepare(model, "OPENCL", strict=True)
    (y,) = session.run([x])

Devices: "OPENCL" is the device that `rekindle devices` would choose, "OPENCL:1" the one of that
number there; nodes without a device form run on the host unless `strict`. "CPU" is the NumPy
reference. The interface is described in ONNX's docs/ImplementingAnOnnxBackend.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx.backend.base import Backend, BackendRep

from rekindle._errors import DeviceError, InputError, RekindleError, UsageError
from rekindle.device import list_devices, select_device
from rekindle.graph.ir import Array
from rekindle.graph.onnx_io import load_bytes
from rekindle.runtime._options import Options
from rekindle.runtime.placement import Placement
from rekindle.runtime.providers import opencl, reference
from rekindle.runtime.session import Session

_DEVICE = re.compile(r"(OPENCL|CPU)(?::(\d+))?")
_REASON = "asked for through ONNX's backend interface"


class PreparedModel(BackendRep):
    """A model ready to run; close it, or let it be collected."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def placement(self) -> Placement:
        """Which node ran where, and why."""
        return self._session.placement

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """Outputs in the model's order, for a list of arrays in its order or a dict by name.

        InputError: an array is missing, too many, or of the wrong dtype or shape.
        """
        _refuse(kwargs)
        return tuple(self._session.run(self._feeds(inputs)).values())

    def close(self) -> None:
        self._session.close()

    def _feeds(self, inputs: Any) -> dict[str, Array]:
        if isinstance(inputs, Mapping):
            return {str(name): np.asarray(array) for name, array in inputs.items()}
        arrays = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
        if len(arrays) != len(self._session.inputs):
            names = ", ".join(spec.name for spec in self._session.inputs) or "none"
            raise InputError(f"{len(arrays)} inputs were given, the model's are: {names}")
        specs = self._session.inputs
        return {s.name: np.asarray(a) for s, a in zip(specs, arrays, strict=True)}


class OpenCLBackend(Backend):
    """The classmethods that `onnx.backend.test.BackendTest` calls; use the functions below."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "OPENCL", **kwargs: Any) -> bool:
        """Whether `prepare` takes the model."""
        try:
            cls.prepare(model, device, **kwargs).close()
        except RekindleError:
            return False
        return True

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "OPENCL", **kwargs: Any) -> PreparedModel:
        """A model on a device. `strict=True` refuses nodes that would run on the host.

        ModelError and UnsupportedOperatorError as `rekindle.open_session`; UsageError for an
        unknown device or keyword; DeviceError where there is no such OpenCL device.
        """
        strict = bool(kwargs.pop("strict", False))
        _refuse(kwargs)
        kind, number = _parse(device)
        options = Options(number if kind == "OPENCL" else None, strict=strict)
        data = _modern(model).SerializeToString()
        graph = load_bytes(data)
        backend: opencl.OpenCLBackend | reference.ReferenceBackend
        if kind == "CPU":
            options.refuse("reference", "strict")
            backend = reference.ReferenceBackend(graph, _REASON)
        else:
            backend = opencl.OpenCLBackend(graph, select_device(number), options, _REASON)
        return PreparedModel(Session(backend, Path("model"), "onnx", options, len(data)))

    @classmethod
    def run_model(
        cls, model: ModelProto, inputs: Any, device: str = "OPENCL", **kwargs: Any
    ) -> tuple[Array, ...]:
        """`prepare`, one run, and everything given back."""
        prepared = cls.prepare(model, device, **kwargs)
        try:
            return prepared.run(inputs)
        finally:
            prepared.close()

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "OPENCL",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Array, ...]:
        """Run one node on arrays, one for each input that it names.

        `outputs_info` is a dtype and a shape for each output, where they are known;
        `opset_version` as a keyword is that of the default domain (else the newest).
        """
        version = int(kwargs.pop("opset_version", onnx.defs.onnx_opset_version()))
        names = [n for n in dict.fromkeys(node.input) if n]
        arrays = dict(zip(names, map(np.asarray, inputs), strict=True))
        given = [_info(n, a.dtype, a.shape) for n, a in arrays.items()]
        made = [n for n in node.output if n]
        known: Sequence[tuple[np.dtype[Any], tuple[int, ...] | None]]
        known = outputs_info or ((np.dtype(np.void), None),) * len(made)
        results = [_info(n, d, s) for n, (d, s) in zip(made, known, strict=True)]
        opsets = [helper.make_opsetid(node.domain, version)]
        graph = helper.make_graph([node], "node", given, results)
        model = helper.make_model(graph, opset_imports=opsets)
        return cls.run_model(model, arrays, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether `prepare` would find such a device on this machine."""
        try:
            kind, number = _parse(device)
            return kind == "CPU" or (number or 0) < len(list_devices())
        except (DeviceError, UsageError):
            return False


def _parse(device: str) -> tuple[str, int | None]:
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise UsageError(f"device {device!r} is not known", hint="use OPENCL, OPENCL:<n> or CPU")
    return match[1], None if match[2] is None else int(match[2])


def _refuse(kwargs: Mapping[str, Any]) -> None:
    if kwargs:
        raise UsageError(f"unknown keyword {', '.join(sorted(kwargs))}", hint="known: strict")


def _modern(model: ModelProto) -> ModelProto:
    """The model at opset 7 at least, by ONNX's own converter: what is older is not read."""
    old = [e for e in model.opset_import if e.domain in ("", "ai.onnx") and e.version < 7]
    if not old:
        return model
    converted: ModelProto = onnx.version_converter.convert_version(model, 7)
    return converted


def _info(name: str, dtype: np.dtype[Any], shape: tuple[int, ...] | None) -> onnx.ValueInfoProto:
    """The type of a value; `void` is an unknown one."""
    unknown = dtype.kind == "V"
    element = TensorProto.UNDEFINED if unknown else helper.np_dtype_to_tensor_dtype(dtype)
    return helper.make_tensor_value_info(name, element, shape)


is_compatible = OpenCLBackend.is_compatible
prepare = OpenCLBackend.prepare
run_model = OpenCLBackend.run_model
run_node = OpenCLBackend.run_node
supports_device = OpenCLBackend.supports_device
