"""Which provider `auto` takes: the one measured fastest here for this model, else a heuristic."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from rekindle import _config
from rekindle._files import write_whole
from rekindle._log import warn_once
from rekindle.device import list_devices, select_device
from rekindle.runtime.framework import Framework
from rekindle.runtime.providers import REGISTRY

_NO_OPENCL = "no OpenCL device was found; `rekindle doctor` says why"


def choose(path: Path, framework: Framework) -> tuple[str, str]:
    """Provider name and the reason, for `provider="auto"`.

    Order: REKINDLE_PROVIDER; the fastest of this machine's own measurements of this very file
    (`rekindle bench` remembers them); `opencl` where there is a device; else ONNX Runtime, or
    PyTorch for a TorchScript or torch.export archive. `hybrid` only where it was measured fastest
    and the OpenCL device is not the host's own processor.
    """
    if wanted := _config.read("REKINDLE_PROVIDER"):
        REGISTRY.get(wanted)
        return wanted, "REKINDLE_PROVIDER says so"
    devices = list_devices()
    measured = {
        name: ms
        for name, ms in _remembered(path).items()
        if name in REGISTRY and (name not in ("opencl", "hybrid") or devices)
    }
    if "hybrid" in measured and select_device().is_host_cpu:
        del measured["hybrid"]  # both sides are the same processor
    if measured:
        best = min(measured, key=lambda name: measured[name])
        figures = ", ".join(f"{name} {ms:.2f} ms" for name, ms in sorted(measured.items()))
        return best, f"measured fastest on this machine: {figures}"
    if devices:
        return "opencl", "an OpenCL device is present; nothing is measured yet for this model"
    return ("onnxruntime" if framework == "onnx" else "torchscript"), _NO_OPENCL


def remember(path: Path, p50_ms: Mapping[str, float]) -> None:
    """Keep measured latencies of a model for `choose`."""
    record = _record_path(path)
    known = _remembered(path) | {name: float(ms) for name, ms in p50_ms.items()}
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        write_whole(record, json.dumps({"p50_ms": known}).encode())
    except OSError as error:
        warn_once(f"measurements are not remembered in {record.parent}: {error}")


def _remembered(path: Path) -> dict[str, float]:
    record = _record_path(path)
    try:
        table = json.loads(record.read_text(encoding="utf-8"))["p50_ms"]
        return {str(name): float(ms) for name, ms in table.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        warn_once(f"the measurements in {record} are unreadable and ignored: {error}")
        return {}


def _record_path(path: Path) -> Path:
    return _config.cache_dir() / "measured" / f"{sha256(path)[:40]}.json"


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
