"""The directory is the registry.

A file in a package *is* an entry: `compress/prune/magnitude.py` is `"prune.magnitude"`,
`graph/ops/hard_swish.py` is `"HardSwish"`. Names are listed without importing anything; asking
for one imports one file. A family file holds several entries and declares them in a literal
`NAMES = ("Relu", "Elu")`. Third parties add entries through an entry-point group with the same
interface: the entry point's name is the entry, its module registers it.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from rekindle._errors import NotFoundError

T = TypeVar("T")
_NAMES = re.compile(r"^NAMES\s*(?::[^=\n]+)?=\s*(\([^)]*\))", re.MULTILINE)


class Registry(Generic[T]):
    """Entries of one package, by name.

    `kind` is the word used in messages ("operator"); `name_of` turns a dotted file stem relative
    to the package into the entry's name, for files that declare no NAMES.
    """

    def __init__(
        self,
        package: str,
        *,
        kind: str,
        name_of: Callable[[str], str] = str,
        entry_points: str | None = None,
    ) -> None:
        self.package = package
        self.kind = kind
        self._name_of = name_of
        self._entry_points = entry_points
        self._entries: dict[str, T] = {}
        self._modules: dict[str, str] | None = None

    def modules(self) -> dict[str, str]:
        """Entry name → module that registers it; reads file texts, imports nothing."""
        if self._modules is None:
            self._modules = dict(self._scan())
        return self._modules

    def names(self) -> tuple[str, ...]:
        """All names, sorted, without importing an entry's file."""
        return tuple(sorted(self.modules().keys() | self._entries.keys()))

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self.modules()

    def register(self, name: str, entry: T) -> T:
        """Called by an entry's own file. Registering a name twice is a programming error."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._entries[name] = entry
        return entry

    def get(self, name: str) -> T:
        """The entry; imports its file on first use. NotFoundError offers near names."""
        if name not in self._entries:
            module = self.modules().get(name)
            if module is None:
                raise NotFoundError(f"unknown {self.kind} {name!r}", hint=self._near(name))
            importlib.import_module(module)
        return self._entries[name]

    def _near(self, name: str) -> str:
        lower = {n.lower(): n for n in self.names()}
        close = difflib.get_close_matches(name.lower(), lower, n=3)
        if close:
            return "did you mean " + " or ".join(lower[c] for c in close) + "?"
        return f"known: {', '.join(self.names()[:12])} …"

    def _scan(self) -> list[tuple[str, str]]:
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(f"{self.package} is not a package")
        found = []
        for root in map(Path, spec.submodule_search_locations):
            for path in sorted(root.rglob("*.py")):
                parts = path.relative_to(root).with_suffix("").parts
                if any(p.startswith("_") for p in parts):
                    continue
                dotted = ".".join(parts)
                for name in _declared(path) or (self._name_of(dotted),):
                    found.append((name, f"{self.package}.{dotted}"))
        if self._entry_points:
            for point in _entry_points().select(group=self._entry_points):
                found.append((point.name, point.module))
        return found


@functools.cache
def _entry_points() -> Any:
    """Of every package installed (its type differs between versions of Python), looked for once."""
    return importlib.metadata.entry_points()


def _declared(path: Path) -> tuple[str, ...]:
    match = _NAMES.search(path.read_text(encoding="utf-8"))
    return tuple(ast.literal_eval(match.group(1))) if match else ()
