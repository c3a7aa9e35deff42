"""PyTorch itself, on TorchScript and torch.export archives (CPU)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rekindle._errors import InputError
from rekindle.graph.ir import Array
from rekindle.runtime._options import Options
from rekindle.runtime.export import archive as archives
from rekindle.runtime.export import probe
from rekindle.runtime.framework import detect
from rekindle.runtime.placement import Placement
from rekindle.runtime.providers import Provider, register


class TorchBackend:
    """A PyTorch archive run by PyTorch."""

    peak_device_bytes: int | None = None
    device_bytes: int | None = None

    def __init__(self, loaded: archives.Archive, options: Options, reason: str) -> None:
        self._torch = archives.require_torch()
        self._loaded = loaded
        self._threads = options.threads
        self.parameters: int | None = loaded.parameters
        self.inputs, self.outputs, _ = probe.specify(loaded, options.inputs)
        self.optimization = f"PyTorch {self._torch.__version__}: none"
        self.placement = Placement("torchscript", "CPU", reason)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        torch = self._torch
        before = torch.get_num_threads()
        if self._threads:
            torch.set_num_threads(self._threads)
        try:
            # Copies: PyTorch may write to what it is given, and refuses read-only arrays.
            tensors = [torch.from_numpy(feeds[spec.name].copy()) for spec in self.inputs]
            with torch.no_grad():
                result = self._loaded.module(*tensors)
        except RuntimeError as error:
            raise InputError(f"PyTorch could not run the model: {error}") from error
        finally:
            torch.set_num_threads(before)
        outputs = result if isinstance(result, (tuple, list)) else (result,)
        return {
            spec.name: tensor.numpy() for spec, tensor in zip(self.outputs, outputs, strict=True)
        }

    def close(self) -> None:
        del self._loaded


def _open(path: Path, options: Options, reason: str) -> TorchBackend:
    options.refuse("torchscript", "device", "memory_limit_bytes")
    options.refuse_precision("torchscript")
    return TorchBackend(archives.load(path, detect(path)), options, reason)


register("torchscript", Provider(frameworks=("torchscript", "torch.export"), open=_open))
