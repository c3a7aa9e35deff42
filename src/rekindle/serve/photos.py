"""Photos for served classifiers: prepared as the model's card says, named with its labels."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rekindle._errors import CardError, NotFoundError
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.fleet import Slot
from rekindle.serve.instance import Instance
from rekindle.serve.messages import InferRequest, InferResponse
from rekindle.tasks.classify import Label, PhotoReader


@dataclass(frozen=True)
class Named:
    """What a photo shows, and what it took. Times in seconds."""

    labels: tuple[Label, ...]
    model: str
    version: str
    provider: str
    placement: str
    prepare_s: float
    queue_s: float
    run_s: float
    total_s: float


class PhotoReaders:
    """One reader per served version; made when first needed, dropped with its slot."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], tuple[Slot, PhotoReader]] = {}

    async def classify(
        self,
        plane: DataPlane,
        photo: bytes,
        name: str = "",
        *,
        precision: str = "",
        top: int = 5,
        infer: Callable[[InferRequest], Awaitable[InferResponse | None]] | None = None,
    ) -> Named | None:
        """Prepare a photo as the model's card says, run the model, name the best classes.

        `infer` runs the request where that is not `plane.infer`; where it gives None (a client
        that left), so does this. Raises what `plane.model`, `get`, the picture and the run raise.
        """
        start = time.perf_counter()
        plane.admit()
        slot, instance = await plane.model(name or self.only(plane), precision=precision)
        reader = self.get(slot, instance)
        loop = asyncio.get_running_loop()
        before = time.perf_counter()
        tensor = await loop.run_in_executor(None, reader.prepare, photo)
        prepare_s = time.perf_counter() - before
        entry, opened = slot.entry, instance.opened
        asked = InferRequest(
            entry.name, {reader.input.name: tensor}, entry.version, precision=precision
        )
        done = await (infer or plane.infer)(asked)
        if done is None:
            return None
        labels = reader.labels(reader.scores(done.outputs[reader.output.name], 1)[0], top)
        return Named(
            labels,
            done.model,
            done.version,
            opened.provider,
            opened.placement,
            prepare_s,
            done.queue_s,
            done.run_s,
            time.perf_counter() - start,
        )

    def get(self, slot: Slot, instance: Instance) -> PhotoReader:
        """The reader of a slot; CardError where its card does not tell what classifying needs."""
        entry = slot.entry
        kept = self._made.get((entry.name, entry.version))
        if kept is None or kept[0] is not slot:
            if entry.card is None:
                raise CardError(
                    f"model {entry.name!r} has no card, so nobody knows how to prepare a photo",
                    hint=f"write {entry.path.parent / 'card.toml'}",
                )
            opened = instance.opened
            kept = (slot, PhotoReader(entry.card, opened.inputs, opened.outputs))
            self._made[entry.name, entry.version] = kept
        return kept[1]

    def only(self, plane: DataPlane) -> str:
        """The one served classifier; NotFoundError where there are none or several."""
        names = classifiers(plane)
        if len(names) == 1:
            return names[0]
        raise NotFoundError(
            f"{'several classifiers are' if names else 'no classifier is'} served",
            hint=f"name one: -F model=...; {', '.join(names)}" if names else "add one",
        )


def classifiers(plane: DataPlane) -> list[str]:
    """Names of the served models whose cards say that they classify photos, sorted."""
    found = (slot.entry for slot in plane.fleet.slots())
    return sorted({e.name for e in found if e.card and e.card.task == "classify"})
