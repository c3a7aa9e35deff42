"""What a page shows of the server: read from the data plane, in its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rekindle._errors import InputError
from rekindle.device.telemetry import Telemetry, read_telemetry
from rekindle.serve import control
from rekindle.serve.access.gate import Gate, Need
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.describe import health
from rekindle.serve.photos import Named, PhotoReaders, classifiers
from rekindle.serve.rest.gate import presented


class _Address(Protocol):
    host: str


class Caller(Protocol):
    """The part of a web request that says who it is from."""

    headers: Mapping[str, str]
    client: _Address


@dataclass(frozen=True)
class ModelRow:
    """One model version, or one that cannot be served."""

    name: str
    version: str
    state: str
    reason: str
    nbytes: int | None
    """Memory it takes; None: it is not loaded."""
    placement: str = ""
    max_batch: int = 0


@dataclass(frozen=True)
class Figures:
    """The server at this moment. Times in seconds."""

    status: str
    answered: int
    failed: int
    in_flight: int
    queued: int
    mean_s: float | None
    mean_batch: float | None
    used_bytes: int
    budget_bytes: int | None
    cards: tuple[Telemetry, ...]


class View:
    """The data plane as pages need it."""

    def __init__(self, plane: DataPlane, gate: Gate) -> None:
        self._plane = plane
        self._gate = gate
        self._readers = PhotoReaders()

    @property
    def control(self) -> bool:
        """Whether models may be loaded and unloaded here."""
        return self._plane.settings.allow_model_control

    def permit(self, need: Need, caller: Caller) -> None:
        """What the gate says to a reader who wants more than to look at the page."""
        self._gate.admit(need, presented(caller.headers), caller.client.host)

    def classifiers(self) -> list[str]:
        return classifiers(self._plane)

    @property
    def precisions(self) -> tuple[str, ...]:
        """The server's own precision, and what else it offers."""
        settings = self._plane.settings
        return tuple(dict.fromkeys((settings.precision, *settings.precisions)))

    async def classify(self, photo: Path, model: str, precision: str) -> Named:
        """What a photo shows; raises what the data plane raises, InputError for a lost file."""
        try:
            data = await asyncio.get_running_loop().run_in_executor(None, photo.read_bytes)
        except OSError:
            raise InputError("the photo is no longer there", hint="choose it again") from None
        named = await self._readers.classify(self._plane, data, model, precision=precision)
        assert named is not None
        return named

    async def load(self, name: str) -> None:
        await control.load(self._plane, name, {})

    async def unload(self, name: str) -> None:
        await control.unload(self._plane, name)

    def models(self) -> list[ModelRow]:
        fleet = self._plane.fleet
        rows = []
        for slot in fleet.slots():
            instance, every = slot.instance, (slot, *slot.variants.values())
            bytes_held = [fleet.budget.holding(s.key).nbytes for s in every if s.instance]
            held = sum(bytes_held) if bytes_held else None
            rows.append(ModelRow(
                slot.entry.name, slot.entry.version, *slot.state, held,
                instance.opened.placement if instance else "",
                instance.max_batch if instance else 0,
            ))  # fmt: skip
        for name, version, reason in fleet.unavailable():
            state = "UNLOADED" if reason == "unloaded" else "UNAVAILABLE"
            rows.append(ModelRow(name, version, state, reason, None))
        return sorted(rows, key=lambda row: (row.name, row.version))

    async def figures(self) -> Figures:
        """Counts and times since the server started, what waits now, and the cards' sensors."""
        loop = asyncio.get_running_loop()
        cards = await loop.run_in_executor(None, read_telemetry)
        plane, counted = self._plane, list(self._plane.statistics.values())
        good = [c.durations["success"] for c in counted]
        answered, runs = sum(d.count for d in good), sum(c.execution_count for c in counted)
        rows = sum(c.inference_count for c in counted)
        instances = [slot.instance for slot in plane.fleet.slots() if slot.instance]
        return Figures(
            status=health(plane)["status"],
            answered=answered,
            failed=sum(c.durations["fail"].count for c in counted),
            in_flight=plane.in_flight,
            queued=sum(instance.queued for instance in instances),
            mean_s=sum(d.ns for d in good) / 1e9 / answered if answered else None,
            mean_batch=rows / runs if runs else None,
            used_bytes=plane.fleet.budget.used,
            budget_bytes=plane.fleet.budget.capacity,
            cards=cards,
        )
