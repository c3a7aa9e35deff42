"""The page's texts: one file per language in `languages/`, each with the same keys."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from rekindle._errors import UsageError

FALLBACK = "en"
"""Where a reader's browser names no language that there is."""
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True)
class Catalogue:
    """The texts of one language, by dotted key."""

    code: str
    texts: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """A text with its places filled in; a key that does not exist is our own error."""
        return self.texts[key].format(**values) if values else self.texts[key]

    def number(self, value: float, digits: int = 0) -> str:
        """A number as the language writes it."""
        return f"{value:.{digits}f}".replace(".", self.texts["decimal"])

    def percent(self, share: float) -> str:
        """`85.2%`; what rounds to none or all without being it says so: `<0.1%`, `>99.9%`."""
        sign, value = "", share
        if 0 < share < 0.0005:
            sign, value = "<", 0.001
        elif 0.9995 <= share < 1:
            sign, value = ">", 0.999
        return sign + self("percent", value=self.number(value * 100, 1))

    def bytes(self, count: int) -> str:
        """Memory in powers of 1024, as its makers count it."""
        for factor, unit in _UNITS:
            if count >= factor:
                return f"{self.number(count / factor, 1)} {unit}"
        return f"{count} B"


def languages() -> tuple[str, ...]:
    """Codes of the languages there are, sorted."""
    files = (resources.files(__package__) / "languages").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def load(code: str) -> Catalogue:
    """The texts of a language; UsageError names those that there are."""
    if code not in languages():
        raise UsageError(
            f"the page does not speak {code!r}", hint=f"one of {', '.join(languages())}"
        )
    file = resources.files(__package__) / "languages" / f"{code}.toml"
    return Catalogue(code, dict(_flat(tomllib.loads(file.read_text(encoding="utf-8")))))


def preferred(accept_language: str) -> str:
    """The language that a browser's Accept-Language header likes best among ours."""
    wishes = []
    for place, item in enumerate(accept_language.split(",")[:32]):
        tag, _, quality = item.strip().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            weight = 0.0
        wishes.append((-weight, place, tag.partition("-")[0].lower()))
    return next((tag for _, _, tag in sorted(wishes) if tag in languages()), FALLBACK)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, str(value)
