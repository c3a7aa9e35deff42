"""Reading one TOML table key by key: every value checked, every unknown key named."""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from rekindle._errors import CardError

_SHOWN = 60
"""Characters of a wrong value that a message repeats."""


class Table:
    """A TOML table being read. `where` names it in messages: `card.toml: preprocess`."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = values
        self._where = where
        self._asked: list[str] = []

    def has(self, key: str) -> bool:
        return key in self._values

    def fail(self, key: str, expected: str, given: object = None) -> CardError:
        """The error for a key: what was given (None: nothing), what was expected."""
        name = f"{self._where}: {key}"
        if given is None:
            return CardError(f"{name} is missing", hint=f"expected {expected}")
        shown = repr(given)
        shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + " …"
        return CardError(f"{name} = {shown} cannot be used", hint=f"expected {expected}")

    def text(self, key: str, expected: str = "a non-empty text") -> str:
        value = self.value(key, expected)
        if not isinstance(value, str) or not value.strip() or not printable(value):
            raise self.fail(key, f"{expected} without control characters", value)
        return value

    def choice(self, key: str, known: Sequence[str], default: str | None = None) -> str:
        """One of `known`; `default` where the key is absent."""
        if default is not None and not self.has(key):
            self._asked.append(key)
            return default
        expected = " or ".join(f'"{k}"' for k in known)
        value = self.value(key, expected)
        if value not in known:
            raise self.fail(key, expected, value)
        return str(value)

    def whole(self, key: str, expected: str = "a whole number, 0 or more") -> int:
        value = self.value(key, expected)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.fail(key, expected, value)
        return value

    def number(self, key: str) -> float:
        value = self.value(key, "a number")
        if not _finite(value):
            raise self.fail(key, "a finite number", value)
        return float(value)

    def numbers(self, key: str, count: int, expected: str) -> tuple[float, ...]:
        values = self.value(key, expected)
        if not isinstance(values, list) or len(values) != count or not all(map(_finite, values)):
            raise self.fail(key, expected, values)
        return tuple(float(v) for v in values)

    def texts(self, key: str) -> tuple[str, ...]:
        expected = "a list of texts without control characters"
        values = self.value(key, expected)
        if not isinstance(values, list) or not values:
            raise self.fail(key, expected, values)
        for value in values:
            if not isinstance(value, str) or not printable(value):
                raise self.fail(key, expected, value)
        return tuple(values)

    def sequence(self, key: str, expected: str) -> list[Any]:
        values = self.value(key, expected)
        if not isinstance(values, list):
            raise self.fail(key, expected, values)
        return values

    def table(self, key: str) -> Table | None:
        """The sub-table `[key]`, or None where the card has none."""
        self._asked.append(key)
        if not self.has(key):
            return None
        value = self._values[key]
        if not isinstance(value, dict):
            raise self.fail(key, f"a table [{key}]", value)
        return Table(value, f"{self._where}: {key}")

    def tables(self, key: str) -> list[Table]:
        """The tables `[[key]]`, in order; none where the card has none."""
        self._asked.append(key)
        values = self._values.get(key, [])
        if not isinstance(values, list) or not all(isinstance(v, dict) for v in values):
            raise self.fail(key, f"tables [[{key}]]", values)
        return [Table(v, f"{self._where}: {key}[{i}]") for i, v in enumerate(values)]

    def finish(self) -> None:
        """Refuse what nobody asked for: a misspelt key must not be ignored."""
        for key in self._values:
            if key not in self._asked:
                near = difflib.get_close_matches(key, self._asked, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(self._asked)}"
                raise CardError(f"{self._where}: unknown key {key!r}", hint=hint)

    def value(self, key: str, expected: str) -> Any:
        """The raw value; CardError where the key is absent."""
        self._asked.append(key)
        if key not in self._values:
            raise self.fail(key, expected)
        return self._values[key]


def printable(text: str) -> bool:
    """No control characters, no surrogates, no line ends: fit for a terminal and for TOML."""
    return all(unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") for c in text)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
