"""Counted instructions of many kernel variants, kept with the package: no compiler is needed.

`make isa` writes gfx803.json. A variant is found again by its kernel and defines; where the
kernel's source has changed since, or these defines were never compiled, the nearest variant
answers, and says that it is only that.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from rekindle.engine.isa.assembly import Counts, Figures
from rekindle.engine.isa.report import Variant
from rekindle.engine.kernels import Launch, source_text
from rekindle.engine.kernels._render import prelude, storage_prelude
from rekindle.engine.program import OPTIONS, suffix

PATH = Path(__file__).with_name("gfx803.json")
Basis = Literal["counted", "nearest"]
_NUMBERS = (
    "vgpr", "sgpr", "lds_bytes", "scratch_bytes", "code_bytes", "work_group", "fma", "multiplies",
    "looped",
)  # fmt: skip
_COUNTS = tuple(field.name for field in dataclasses.fields(Counts))
_SHORT = 12
"""Characters of a define that says how the kernel is cut, rather than what is fused to it."""


@dataclass(frozen=True)
class _Entry:
    defines: Mapping[str, str]
    local_size: tuple[int, ...] | None
    figures: Figures


class Table:
    """Figures by variant. `document` is what `document_of` made."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.sources: Mapping[str, str] = document["sources"]
        self.compiler: str = document["compiler"]
        self._exact: dict[tuple[str, str], Figures] = {}
        self._all: dict[tuple[str, str], list[_Entry]] = {}
        for stem, entry, name, group, defines, numbers in document["variants"]:
            figures = _figures(name, numbers)
            self._exact[name, repr(group)] = figures
            local = None if group is None else tuple(group)
            self._all.setdefault((stem, entry), []).append(_Entry(defines, local, figures))

    def __len__(self) -> int:
        return len(self._exact)

    def find(self, launch: Launch) -> tuple[Figures, Basis] | None:
        """A launch's figures: of its own variant, or the nearest one; None for unknown kernels."""
        group = None if launch.local_size is None else list(launch.local_size)
        name = f"{launch.entry}_{suffix((launch.kernel, launch.defines))}"
        found = self._exact.get((name, repr(group)))
        if found and self.is_fresh(launch.kernel):
            return found, "counted"
        known = self._all.get((launch.kernel, launch.entry))
        if not known:
            return None
        wanted = _short(launch)
        return min(known, key=lambda e: _distance(e, wanted, launch.local_size)).figures, "nearest"

    def is_fresh(self, stem: str) -> bool:
        """Whether the kernel's source is the one that was compiled."""
        return self.sources.get(stem) == source_digest(stem)


@functools.cache
def table() -> Table:
    """The table of the package."""
    text = resources.files("rekindle.engine.isa").joinpath(PATH.name).read_text(encoding="utf-8")
    return Table(json.loads(text))


@functools.cache
def source_digest(stem: str) -> str:
    """Of a kernel's template, the preludes and the compiler's options."""
    parts = (source_text(stem), storage_prelude(), *(prelude(n) for n in (1, 4)), *OPTIONS)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def document_of(
    variants: Iterable[tuple[Variant, Launch, Figures]], compiler: str
) -> dict[str, Any]:
    """What `Table` reads, of variants with a launch and the figures of each."""
    rows: list[list[Any]] = []
    for (_, entry, group), launch, figures in variants:
        numbers = [int(getattr(figures, name)) for name in _NUMBERS]
        numbers += [getattr(figures.hot, name) for name in _COUNTS]
        local = None if group is None else list(group)
        rows.append([launch.kernel, entry, figures.name, local, _short(launch), numbers])
    rows.sort(key=lambda row: (row[0], row[1], json.dumps(row[4]), row[2]))
    stems = sorted({row[0] for row in rows})
    return {
        "compiler": compiler,
        "sources": {stem: source_digest(stem) for stem in stems},
        "columns": [*_NUMBERS, *(f"hot.{name}" for name in _COUNTS)],
        "variants": rows,
    }


def write(document: Mapping[str, Any], path: Path = PATH) -> None:
    """One variant a line, so that a change of one kernel is a change of its lines."""
    rows = ",\n".join(f"  {json.dumps(row)}" for row in document["variants"])
    head = {key: value for key, value in document.items() if key != "variants"}
    text = json.dumps(head, indent=1)[:-2] + f',\n "variants": [\n{rows}\n ]\n}}\n'
    path.write_text(text, encoding="utf-8")


def _figures(name: str, numbers: list[int]) -> Figures:
    given: dict[str, Any] = dict(zip(_NUMBERS, numbers, strict=False))
    given["looped"] = bool(given["looped"])
    return Figures(name, hot=Counts(*numbers[len(_NUMBERS) :]), **given)


def _short(launch: Launch) -> dict[str, str]:
    return {k: v for k, v in launch.defines if "(" not in k and len(v) <= _SHORT}


def _distance(
    entry: _Entry, wanted: Mapping[str, str], local_size: tuple[int, ...] | None
) -> tuple[float, ...]:
    """Other words first, then how far numbers are apart, in octaves; then the work-group."""
    words, octaves = 0, 0.0
    for name in sorted({*wanted, *entry.defines}):
        here, there = wanted.get(name, ""), entry.defines.get(name, "")
        if here == there:
            continue
        if here.isdecimal() and there.isdecimal():
            octaves += abs(math.log2((int(here) + 1) / (int(there) + 1)))
        else:
            words += 1
    return words, octaves, float(entry.local_size != local_size)
