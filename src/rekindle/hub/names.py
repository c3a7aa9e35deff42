"""From a path or a name to a model file and its card, checked."""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from rekindle._errors import CardError, NotFoundError
from rekindle.hub.card import CardFile, ModelCard, load_card

BUNDLED = Path(__file__).parent / "models"
"""Models that come with the package: `<name>/<version>/card.toml`."""

CARD = "card.toml"


@dataclass(frozen=True)
class Resolved:
    """A model file that exists, and its card where it has one."""

    path: Path
    card: ModelCard | None = None


def resolve(model: str | Path) -> Resolved:
    """The model that a path or a `name[@revision]` stands for.

    A name is a bundled model, its newest version unless `@revision` says another; `./name` is
    always a path. A path is a model file (its card is `<stem>.card.toml` beside it, or the
    `card.toml` of its folder if that lists the file) or a folder with a `card.toml`. Where a
    card lists files, their sizes and SHA-256 are checked. Raises NotFoundError with near names,
    or CardError.
    """
    bundled = _bundled()
    name, _, revision = str(model).partition("@")
    if name in bundled and not isinstance(model, Path):
        versions = bundled[name]
        wanted = revision or max(versions, key=_order)
        if wanted in versions:
            return _folder(versions[wanted])
        raise NotFoundError(
            f"{name} has no revision {revision!r}",
            hint=f"it has {', '.join(sorted(versions, key=_order))}",
        )
    path = Path(model)
    try:
        if path.is_dir():
            return _folder(path)
        if path.is_file():
            return _file(path)
    except OSError as error:
        raise NotFoundError(
            f"{model} cannot be read: {error.strerror}", hint="check the path and its permissions"
        ) from None
    raise _unknown(str(model), sorted(bundled))


def list_models() -> tuple[Resolved, ...]:
    """Every bundled model, each version, oldest version first; the files are not checked."""
    found = []
    for _, versions in sorted(_bundled().items()):
        for version in sorted(versions, key=_order):
            card = load_card(versions[version] / CARD)
            found.append(Resolved(_main_file(versions[version], card), card))
    return tuple(found)


def verify(folder: Path, card: ModelCard) -> None:
    """Check each file of a card in its folder: there, of the right size, with the right SHA-256.

    Raises NotFoundError or CardError with the file, what the card says and what was found.
    """
    for file in card.files:
        path = folder / file.path
        if not path.is_file():
            raise NotFoundError(
                f"{path}, which the card of {card.name} lists, does not exist",
                hint="get the whole model again",
            )
        _verify_file(path, file)


def _verify_file(path: Path, file: CardFile) -> None:
    size = path.stat().st_size
    if size != file.bytes:
        raise CardError(
            f"{path} has {size:,} bytes; its card says {file.bytes:,}",
            hint="get the model again, or write a card for this file",
        )
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != file.sha256:
        raise CardError(
            f"{path} has SHA-256 {digest}; its card says {file.sha256}",
            hint="the file was changed or damaged: get it again, or write a card for it",
        )


def _file(path: Path) -> Resolved:
    beside = path.with_name(f"{path.stem}.card.toml")
    if beside.is_file():
        card = load_card(beside)
        verify(path.parent, card)
        return Resolved(path, card)
    inside = path.with_name(CARD)
    if inside.is_file():
        card = load_card(inside)
        if any(path.parent / f.path == path for f in card.files):
            verify(path.parent, card)
            return Resolved(path, card)
    return Resolved(path)


def _folder(folder: Path) -> Resolved:
    if not (folder / CARD).is_file():
        raise NotFoundError(
            f"{folder} is a folder without a {CARD}",
            hint="name the model file itself, or write a card for it",
        )
    card = load_card(folder / CARD)
    verify(folder, card)
    return Resolved(_main_file(folder, card), card)


def _main_file(folder: Path, card: ModelCard) -> Path:
    """The first file that a card lists is the one to load."""
    if not card.files:
        raise CardError(
            f"{folder / CARD} lists no files", hint="add [[files]] with path, sha256, bytes"
        )
    return folder / card.files[0].path


def _bundled() -> dict[str, dict[str, Path]]:
    """Name → version → folder."""
    found: dict[str, dict[str, Path]] = {}
    for card in BUNDLED.glob(f"*/*/{CARD}"):
        found.setdefault(card.parent.parent.name, {})[card.parent.name] = card.parent
    return found


def _order(version: str) -> list[tuple[int, str]]:
    """Versions sort by their numbers: 10 comes after 9."""
    return [
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", version)
    ]


def _unknown(model: str, known: list[str]) -> NotFoundError:
    """Near names: of files in the same folder for what looks like a path, else of models."""
    path = Path(model)
    if len(path.parts) > 1 or path.suffix:
        near = [str(path.with_name(n)) for n in _near(path.name, _listing(path.parent))]
        message, fallback = f"{model}: no such file", "check the path"
    else:
        near = _near(model.partition("@")[0], known)
        message = f"{model!r} is neither a file nor the name of a model"
        fallback = f"models that come with Rekindle: {', '.join(known) or 'none'}"
    return NotFoundError(message, hint=f"did you mean {' or '.join(near)}?" if near else fallback)


def _near(name: str, known: list[str]) -> list[str]:
    return difflib.get_close_matches(name, known, n=3)


def _listing(folder: Path) -> list[str]:
    try:
        return sorted(p.name for p in folder.iterdir())
    except OSError:
        return []
