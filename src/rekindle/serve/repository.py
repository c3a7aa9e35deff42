"""The model repository: `<name>/<version>/` with a model file, and a card.toml where there is one.

Besides a card, a model's folder may hold a `serve.toml`, which says how the model is served:

    versions = 2            # how many of the newest, or a list of names; 1 where nothing is said
    max_batch = 8           # rows of one run; 1 switches batching off
    window_ms = 2.0         # how long an idle model waits for company

Nothing is loaded here. A name asked for is looked up among what was found, never made a path.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rekindle._errors import CardError, ModelError, NotFoundError, RekindleError
from rekindle.hub import ModelCard, load_card

CARD = "card.toml"
CONFIG = "serve.toml"
MODEL_FILES = ("model.onnx", "model.pt", "model.pt2")
_SUFFIXES = frozenset(Path(name).suffix for name in MODEL_FILES)


@dataclass(frozen=True)
class ModelConfig:
    """How one model is served. None: as the server's settings say."""

    versions: int | tuple[str, ...] = 1
    """How many of the newest versions, or which."""
    max_batch: int | None = None
    window_s: float | None = None


@dataclass(frozen=True)
class Entry:
    """One version of a model on disk."""

    name: str
    version: str
    path: Path
    """The model file."""
    card: ModelCard | None
    config: ModelConfig
    fingerprint: tuple[tuple[str, int, int], ...]
    """Name, size and modification time in ns of each file: tells whether anything changed."""
    file_bytes: int
    precision: str | None = None
    """How it is stored on the device; None: as the server's settings say."""


@dataclass
class Index:
    """What a scan found: versions by model, oldest first, and what could not be used."""

    models: dict[str, dict[str, Entry]] = field(default_factory=dict)
    problems: dict[tuple[str, str], RekindleError] = field(default_factory=dict)
    """By model and version; the version is empty where the model as a whole is unusable."""

    def wanted(self, name: str) -> list[Entry]:
        """The versions of a model that its policy serves, oldest first."""
        versions = self.models.get(name, {})
        if not versions:
            return []
        policy = next(iter(versions.values())).config.versions
        if isinstance(policy, int):
            return list(versions.values())[-policy:]
        return [versions[v] for v in policy if v in versions]


def scan(root: Path, overrides: Mapping[str, ModelConfig] | None = None) -> Index:
    """Everything in a repository. `root` may also be a single model file: its name, version 1.

    `overrides` replaces what serve.toml says, by model. NotFoundError where `root` is not there.
    """
    index = Index()
    if root.is_file():
        name = root.stem
        config = (overrides or {}).get(name, ModelConfig())
        index.models[name] = {"1": _loose(root, config)}
        return index
    if not root.is_dir():
        raise NotFoundError(
            f"{root}: no such model repository",
            hint="a folder with <name>/<version>/model.onnx, or a model file",
        )
    for folder in _folders(root):
        _scan_model(folder, index, (overrides or {}).get(folder.name))
    return index


def read_config(values: Mapping[str, Any], where: str) -> ModelConfig:
    """A model's configuration from a table; CardError names what is wrong in it."""
    known = {"versions", "max_batch", "window_ms"}
    if unknown := values.keys() - known:
        raise CardError(
            f"{where}: unknown key {', '.join(sorted(unknown))}",
            hint=f"known: {', '.join(sorted(known))}",
        )
    versions, batch = values.get("versions", 1), values.get("max_batch")
    window = values.get("window_ms")
    if isinstance(versions, list) and versions and all(isinstance(v, str) for v in versions):
        versions = tuple(versions)
    elif type(versions) is not int or versions < 1:
        raise CardError(
            f"{where}: versions = {versions!r} cannot be used",
            hint='how many of the newest, or a list such as ["1", "3"]',
        )
    if batch is not None and (type(batch) is not int or not 1 <= batch <= 4096):
        raise CardError(f"{where}: max_batch = {batch!r} cannot be used", hint="1 to 4096")
    if window is not None and (type(window) not in (int, float) or not 0 <= window <= 10_000):
        raise CardError(f"{where}: window_ms = {window!r} cannot be used", hint="0 to 10000")
    return ModelConfig(versions, batch, None if window is None else window / 1e3)


def version_order(version: str) -> list[tuple[int, str]]:
    """Versions sort by their numbers: 10 comes after 9."""
    parts = re.split(r"(\d+)", version)
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts]


def _scan_model(folder: Path, index: Index, override: ModelConfig | None) -> None:
    name = folder.name
    try:
        config = override or _read_config_file(folder / CONFIG)
        versions = sorted(_folders(folder), key=lambda path: version_order(path.name))
        if not versions:
            raise ModelError(
                f"{folder} holds no version folder", hint=f"move the model into {folder / '1'}"
            )
    except RekindleError as error:
        index.problems[name, ""] = error
        return
    for version in versions:
        try:
            entry = _entry(name, version, config)
        except RekindleError as error:
            index.problems[name, version.name] = error
        else:
            index.models.setdefault(name, {})[version.name] = entry


def _read_config_file(path: Path) -> ModelConfig:
    try:
        return read_config(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError:
        return ModelConfig()
    except (OSError, ValueError) as error:
        raise CardError(f"{path} cannot be read: {error}", hint="it is a UTF-8 TOML file") from None


def _entry(name: str, folder: Path, config: ModelConfig) -> Entry:
    card = load_card(folder / CARD) if (folder / CARD).is_file() else None
    if card and not card.files:
        raise CardError(f"{folder / CARD} lists no files", hint="add [[files]]")
    path = folder / card.files[0].path if card else _model_file(folder)
    return _made(Entry(name, folder.name, path, card, config, (), 0), folder)


def _loose(path: Path, config: ModelConfig) -> Entry:
    beside = path.with_name(f"{path.stem}.card.toml")
    card = load_card(beside) if beside.is_file() else None
    return _made(Entry(path.stem, "1", path, card, config, (), 0), None)


def _made(entry: Entry, folder: Path | None) -> Entry:
    """The entry with its files' sizes and times."""
    files = [entry.path] if folder is None else sorted(p for p in folder.rglob("*") if p.is_file())
    try:
        stats = [(path.name, path.stat()) for path in files]
        weights = entry.path.stat().st_size
    except OSError as error:
        raise ModelError(f"{entry.path} cannot be read: {error.strerror}") from None
    if entry.card:
        weights = max(weights, sum(f.bytes for f in entry.card.files))
    prints = tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    return replace(entry, fingerprint=prints, file_bytes=weights)


def _model_file(folder: Path) -> Path:
    for name in MODEL_FILES:
        if (folder / name).is_file():
            return folder / name
    others = [p for p in sorted(folder.iterdir()) if p.suffix in _SUFFIXES and p.is_file()]
    if len(others) == 1:
        return others[0]
    raise ModelError(
        f"{folder} holds {'several models' if others else 'no model'} and no card.toml",
        hint=f"name the model {MODEL_FILES[0]}, or write a card that lists it",
    )


def _folders(root: Path) -> list[Path]:
    """Folders of a folder, sorted; names that begin with a dot are being written, or hidden."""
    try:
        with os.scandir(root) as found:
            names = [e.name for e in found if e.is_dir() and not e.name.startswith((".", "_"))]
    except OSError as error:
        raise NotFoundError(f"{root} cannot be listed: {error.strerror}") from None
    return [root / name for name in sorted(names)]
