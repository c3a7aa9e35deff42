"""Label files: one label per line, or `index  label` lines."""

from __future__ import annotations

import re
from pathlib import Path

from rekindle._errors import CardError
from rekindle.hub._table import printable

_INDEXED = re.compile(r"\s*(\d+)\s+(\S.*)")


def read_labels(path: Path) -> tuple[str, ...]:
    """Labels in the order of the model's output.

    The lines are taken as `index  label` when every one of them begins with a number and the
    numbers are 0, 1, 2, … in any order; otherwise each line is a label. Empty lines are skipped.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise CardError(
            f"the labels file {path} cannot be read: {error}",
            hint="put it beside the card, as UTF-8 text with one label per line",
        ) from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or not all(printable(line.replace("\t", " ")) for line in lines):
        raise CardError(
            f"the labels file {path} holds {'control characters' if lines else 'no labels'}",
            hint="write one label per line",
        )
    pairs = [_INDEXED.fullmatch(line) for line in lines]
    indexed = {int(p[1]): p[2].strip() for p in pairs if p}
    if indexed.keys() == set(range(len(lines))):
        return tuple(indexed[i] for i in range(len(lines)))
    return tuple(lines)
