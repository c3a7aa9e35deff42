"""What a worker is told, and what it tells: plain data that crosses a process's border."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from rekindle._errors import BusyError
from rekindle._types import DType, TensorSpec
from rekindle.graph.ir import Array


@dataclass(frozen=True)
class Job:
    """A model to open, and how. `inputs` and `outputs` are the card's; empty: it tells none."""

    path: str
    provider: str
    device: str | None
    precision: str
    threads: int | None
    max_batch: int
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


@dataclass(frozen=True)
class Opened:
    """What is known of a model once it has been opened, checked and warmed up."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    framework: str
    provider: str
    placement: str
    nbytes: int
    """Memory it takes: what the engine holds on the device, else what this process grew by."""
    batchable: bool
    """Whether rows of different requests may share a run: proved with real runs."""
    batch_reason: str
    sizes: tuple[int, ...]
    """Batch sizes to keep to, where each new one costs a plan; empty: any will do."""
    latencies: tuple[tuple[int, float], ...]
    """Rows and seconds of warm runs."""
    load_s: float


@dataclass(frozen=True)
class Ran:
    """The outputs of one batch, and what the run took."""

    outputs: Mapping[str, Array]
    input_s: float
    run_s: float
    output_s: float
    nbytes: int | None = None
    """Memory on the device now, where the engine tells it."""


class WorkerLostError(BusyError):
    """The worker died, or was killed because it hung, while it had this to do."""


class Worker(Protocol):
    """One opened model. `run` is called again only after it has returned."""

    async def open(self, job: Job) -> Opened:
        """Open, check and warm up; raises what `open_session` raises, or CardError."""
        ...

    async def run(self, parts: Sequence[Mapping[str, Array]], rows: int) -> Ran:
        """Run the parts as one batch, filled up with zeros to `rows` rows where that is more."""
        ...

    async def close(self) -> None:
        """Give everything back."""
        ...

    @property
    def alive(self) -> bool:
        """Whether the model is open, and its process, if it has one, lives and answers."""
        ...


def rows_of(part: Mapping[str, Array]) -> int:
    """The size of the first dimension: how many rows a request brings."""
    first = next(iter(part.values()), None)
    return int(first.shape[0]) if first is not None and first.ndim else 1


def pack(value: Job | Opened) -> dict[str, Any]:
    """As JSON has it."""
    table = asdict(value)
    for key in ("inputs", "outputs"):
        table[key] = [[s.name, str(s.dtype), list(s.shape)] for s in getattr(value, key)]
    return table


def unpack_job(table: dict[str, Any]) -> Job:
    return Job(**table | _specs(table))


def unpack_opened(table: dict[str, Any]) -> Opened:
    latencies = tuple((rows, seconds) for rows, seconds in table["latencies"])
    return Opened(
        **table | _specs(table) | {"latencies": latencies, "sizes": tuple(table["sizes"])}
    )


def _specs(table: dict[str, Any]) -> dict[str, tuple[TensorSpec, ...]]:
    return {
        key: tuple(
            TensorSpec(name, DType(dtype), tuple(shape)) for name, dtype, shape in table[key]
        )
        for key in ("inputs", "outputs")
    }
