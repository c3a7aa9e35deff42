"""Records in and out: what one machine measured, for others with the same device and driver."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from rekindle.engine.tuner.records import (
    Environment,
    Measurement,
    TuningRecords,
    dumps,
    loads,
)
from rekindle.engine.tuner.store import Journal


@dataclass(frozen=True)
class TakenIn:
    """What became of a file's entries."""

    taken: int
    kept: int
    """Entries passed over, for this machine has measured the same itself."""
    refused: tuple[str, ...]
    """Entry by entry: why."""


def export_text(records: TuningRecords) -> tuple[str, int]:
    """A file's text, and how many measurements it holds: those of this machine that succeeded."""
    own = TuningRecords(records.environment)
    for name, entries in records.table.items():
        for m in entries.values():
            if m.status == "ok" and not m.imported:
                own.add(name, m)
    return dumps(own), len(own)


def take_in(journal: Journal, text: str, what: str) -> TakenIn:
    """Merge a file's entries into a journal, marked as imported.

    Nothing in the file is run. Refused are entries outside the declared space, those of another
    device, driver or compiler, and everything but successful measurements. UsageError where
    `text` is no file of records; `what` names it.
    """
    found, problems = loads(text, what)
    entries = [(name, m) for name, known in found.table.items() for m in known.values()]
    if why := _foreign(found.environment, journal.records.environment):
        return TakenIn(0, 0, (*problems, *(f"{name}, {m.setting}: {why}" for name, m in entries)))
    refused, kept = list(problems), 0
    fresh: list[tuple[str, Measurement]] = []
    for name, m in entries:
        mine = journal.records.table.get(name, {}).get(str(m.setting))
        if m.status != "ok":
            refused.append(f"{name}, {m.setting}: it is {m.status}")
        elif mine and not mine.imported:
            kept += 1
        else:
            fresh.append((name, replace(m, imported=True)))
    journal.add_all(fresh)
    return TakenIn(len(fresh), kept, tuple(refused))


def _foreign(theirs: Environment, ours: Environment) -> str:
    """How two environments differ; "" where they do not."""
    mine = asdict(ours)
    return "; ".join(
        f"measured with {key.replace('_', ' ')} {value!r}, here it is {mine[key]!r}"
        for key, value in asdict(theirs).items()
        if value != mine[key]
    )
