"""From what a caller names to the list of picture files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rekindle._errors import NotFoundError
from rekindle.images import SUFFIXES

Photos = str | Path | Iterable[str | Path]
"""One picture, one folder, or several of both."""


def find_photos(photos: Photos) -> tuple[Path, ...]:
    """The files, in the order named; a folder gives the pictures in and below it, sorted.

    Files whose names begin with a dot are left out of folders (macOS writes such companions).
    A name that does not exist stays in the list: it is reported with the results. NotFoundError
    for a folder without pictures, and for nothing at all.
    """
    named = [photos] if isinstance(photos, str | Path) else list(photos)
    found: list[Path] = []
    for path in map(Path, named):
        try:
            found.extend(_below(path) if path.is_dir() else [path])
        except OSError as error:
            raise NotFoundError(
                f"{path} cannot be listed: {error.strerror}", hint="check its permissions"
            ) from None
    if not found:
        raise NotFoundError("no photo was named", hint="name a picture file or a folder")
    return tuple(found)


def _below(folder: Path) -> list[Path]:
    pictures = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not pictures:
        raise NotFoundError(
            f"the folder {folder} holds no picture",
            hint=f"looked for {', '.join(sorted(SUFFIXES))}, also in folders below",
        )
    return sorted(pictures)
