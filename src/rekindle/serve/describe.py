"""What a server says about itself and its models, in the words of the Open Inference Protocol.

Plain dictionaries: REST sends them as they are, gRPC turns them into messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import rekindle
from rekindle._types import DType, TensorSpec
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.fleet import Slot
from rekindle.serve.instance import Instance
from rekindle.serve.tensors import DATATYPES

EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "statistics",
)
_PLATFORMS = {
    "onnx": ("onnxruntime_onnx", "onnx"),
    "torchscript": ("pytorch_libtorch", "pytorch"),
    "torch.export": ("pytorch_libtorch", "pytorch"),
}
"""Platform and backend by framework: the words Triton has for files of that kind."""
_TRITON_TYPES = {"BYTES": "STRING"}


def server(*, model_control: bool) -> dict[str, Any]:
    extensions = [e for e in EXTENSIONS if model_control or e != "model_repository"]
    return {"name": "rekindle", "version": rekindle.__version__, "extensions": extensions}


def metadata(plane: DataPlane, slot: Slot, instance: Instance) -> dict[str, Any]:
    opened = instance.opened
    versions = [s.entry.version for s in plane.fleet.versions(slot.entry.name)]
    return {
        "name": slot.entry.name,
        "versions": versions or [slot.entry.version],
        "platform": _PLATFORMS[opened.framework][0],
        "inputs": [_tensor(spec) for spec in opened.inputs],
        "outputs": [_tensor(spec) for spec in opened.outputs],
    }


def configuration(slot: Slot, instance: Instance) -> dict[str, Any]:
    """Triton's model configuration, as far as it has a meaning here."""
    opened = instance.opened
    platform, backend = _PLATFORMS[opened.framework]
    batched = instance.max_batch > 0
    config: dict[str, Any] = {
        "name": slot.entry.name,
        "platform": platform,
        "backend": backend,
        "max_batch_size": instance.max_batch,
        "input": [_config_tensor(spec, batched) for spec in opened.inputs],
        "output": [_config_tensor(spec, batched) for spec in opened.outputs],
        "default_model_filename": slot.entry.path.name,
    }
    if batched:
        config["dynamic_batching"] = {
            "preferred_batch_size": list(opened.sizes),
            "max_queue_delay_microseconds": round(instance.window_s * 1e6),
            "preserve_ordering": False,
            "priority_levels": 9,
            "default_priority_level": 5,
        }
    return config


def statistics(plane: DataPlane, name: str = "", version: str = "") -> list[dict[str, Any]]:
    """Of one version, one model, or every model that is served."""
    if version:
        slots = [plane.fleet.find(name, version)]
    elif name:
        slots = plane.fleet.versions(plane.fleet.find(name).entry.name)
    else:
        slots = plane.fleet.slots()
    found = []
    for slot in slots:
        entry = slot.entry
        counted = plane.statistics[entry.name, entry.version]
        table = counted.to_dict(entry.name, entry.version)
        if slot.instance is not None:
            held = plane.fleet.budget.holding(slot.key).nbytes
            kind = "GPU" if slot.instance.opened.provider == "opencl" else "CPU"
            table["memory_usage"] = [{"type": kind, "id": 0, "byte_size": held}]
        found.append(table)
    return found


def health(plane: DataPlane) -> dict[str, Any]:
    """One word, and the figures behind it."""
    fleet = plane.fleet
    if plane.draining:
        status = "draining"
    elif not fleet.started:
        status = "starting"
    else:
        status = "ok" if fleet.healthy else "a worker is being started again"
    return {
        "status": status,
        "ready": plane.ready,
        "version": rekindle.__version__,
        "models": {f"{s.entry.name}/{s.entry.version}": s.state[0] for s in fleet.slots()},
        "in_flight": plane.in_flight,
        "memory": {"used_bytes": fleet.budget.used, "budget_bytes": fleet.budget.capacity},
    }


def index(plane: DataPlane, *, only_ready: bool = False) -> list[dict[str, str]]:
    """The repository: every version that is served, and what cannot be, with the reason."""
    rows = []
    for slot in plane.fleet.slots():
        state, reason = slot.state
        if slot.ready or not only_ready:
            rows.append(_row(slot.entry.name, slot.entry.version, state, reason))
    if not only_ready:
        for name, version, reason in plane.fleet.unavailable():
            rows.append(_row(name, version, "UNAVAILABLE", reason))
    return rows


def _row(name: str, version: str, state: str, reason: str) -> dict[str, str]:
    return {"name": name, "version": version, "state": state, "reason": reason}


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": _dims(spec.shape)}


def _config_tensor(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    """Where requests are put together, Triton's dims leave the batch out."""
    shape = spec.shape[1:] if batched else spec.shape
    return {"name": spec.name, "data_type": f"TYPE_{_type_word(spec.dtype)}", "dims": _dims(shape)}


def _type_word(dtype: DType) -> str:
    word = DATATYPES[dtype]
    return _TRITON_TYPES.get(word, word)


def _dims(shape: Sequence[int | str]) -> list[int]:
    return [d if isinstance(d, int) else -1 for d in shape]
