"""Photos for served classifiers: prepared as the model's card says, named with its labels."""

from __future__ import annotations

from rekindle._errors import CardError, NotFoundError
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.fleet import Slot
from rekindle.serve.instance import Instance
from rekindle.tasks.classify import PhotoReader


class PhotoReaders:
    """One reader per served version; made when first needed, dropped with its slot."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], tuple[Slot, PhotoReader]] = {}

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
        cards = (slot.entry.card for slot in plane.fleet.slots())
        entries = zip(plane.fleet.slots(), cards, strict=True)
        names = {slot.entry.name for slot, card in entries if card and card.task == "classify"}
        if len(names) == 1:
            return names.pop()
        raise NotFoundError(
            f"{'several classifiers are' if names else 'no classifier is'} served",
            hint=f"name one: -F model=...; {', '.join(sorted(names))}" if names else "add one",
        )
