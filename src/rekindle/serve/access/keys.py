"""API keys: made at random, kept as hashes in a small TOML file, looked up in constant time.

A key is `rk_<id>_<secret>` with 256 random bits in its secret. The file holds SHA-256 of the whole
key. A slow hash such as scrypt protects secrets that people think of, of which there are few
enough to try; 2^256 cannot be tried however fast the hash, and a slow one would let anybody who
sends wrong keys keep the server busy.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from rekindle._errors import NotFoundError, UsageError
from rekindle._files import write_whole
from rekindle._log import logger

SCOPES = ("infer", "admin", "metrics")
"""What a key may do: ask models; load and unload them; read metrics. Each key may look around."""
_KEY = re.compile(r"rk_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_LOOK_AGAIN_S = 1.0


@dataclass(frozen=True)
class Key:
    """A caller, as the file knows it: never the key itself."""

    name: str
    id: str
    sha256: str
    scopes: tuple[str, ...]
    created: date


class KeyFile:
    """The keys of a file, read again within a second of a change: a removed key stops working."""

    def __init__(self, path: Path) -> None:
        """UsageError or NotFoundError where the file cannot be used."""
        self._path = path
        self._by_id = _by_id(read(path))
        self._stamp = _stamp(path)
        self._looked = time.monotonic()

    def find(self, presented: str) -> Key | None:
        """The caller who has this key; None for a wrong one."""
        self._refresh()
        shaped = _KEY.fullmatch(presented)
        known = self._by_id.get(shaped[1]) if shaped else None
        # The id is no secret; the comparison of the rest must not tell how much was right.
        if known is None or not hmac.compare_digest(_hashed(presented), known.sha256):
            return None
        return known

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK_AGAIN_S:
            return
        self._looked = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._by_id = _by_id(read(self._path))
        except (UsageError, NotFoundError) as error:
            # A slip in an editor must not lock everybody out; who wants that ends the server.
            logger.error("the API keys stay as they were: %s", error)


def make(name: str, scopes: Iterable[str]) -> tuple[str, Key]:
    """A new key, to be told once, and what is kept of it. UsageError for an unknown scope."""
    chosen = tuple(dict.fromkeys(scopes))
    if unknown := [scope for scope in chosen if scope not in SCOPES]:
        raise UsageError(f"unknown scope {unknown[0]!r}", hint=f"some of {', '.join(SCOPES)}")
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a key", hint="letters, digits, - and _")
    identity = secrets.token_hex(8)
    text = f"rk_{identity}_{secrets.token_urlsafe(32)}"
    today = time.gmtime()
    created = date(today.tm_year, today.tm_mon, today.tm_mday)
    return text, Key(name, identity, _hashed(text), chosen, created)


def read(path: Path) -> list[Key]:
    """The keys in a file. UsageError where it is malformed or others may change it."""
    try:
        with path.open("rb") as file:
            _check_mode(path, os.fstat(file.fileno()).st_mode)
            table = tomllib.load(file)
    except FileNotFoundError:
        raise NotFoundError(
            f"{path}: no such file of API keys", hint=f"rekindle keys {path} --add NAME"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a file of API keys: {error}") from None
    return [_key(path, name, value) for name, value in table.items()]


def write(path: Path, keys: Iterable[Key]) -> None:
    """Replace the file, for its owner's eyes only."""
    lines = ["# API keys of `rekindle serve`: hashes only. Change it with `rekindle keys`.\n"]
    for key in keys:
        scopes = ", ".join(f'"{scope}"' for scope in key.scopes)
        lines.append(
            f'[{key.name}]\nid = "{key.id}"\nsha256 = "{key.sha256}"\n'
            f"scopes = [{scopes}]\ncreated = {key.created.isoformat()}\n"
        )
    write_whole(path, "\n".join(lines).encode())


def _key(path: Path, name: str, value: Any) -> Key:
    table: Mapping[str, Any] = value if isinstance(value, dict) else {}
    identity, digest = table.get("id"), table.get("sha256")
    scopes, created = table.get("scopes"), table.get("created")
    good = (
        isinstance(identity, str)
        and isinstance(digest, str)
        and _HASH.fullmatch(digest)
        and isinstance(scopes, list)
        and all(scope in SCOPES for scope in scopes)
        and isinstance(created, date)
        and set(table) == {"id", "sha256", "scopes", "created"}
    )
    if not good:
        raise UsageError(
            f"{path}: the key {name!r} is malformed",
            hint=f"remove it and add it again: rekindle keys {path} --add {name}",
        )
    assert isinstance(identity, str)
    assert isinstance(digest, str)
    assert isinstance(scopes, list)
    assert isinstance(created, date)
    return Key(name, identity, digest, tuple(scopes), created)


def _check_mode(path: Path, mode: int) -> None:
    """Who can write the file can let himself in; who can read it learns nothing he could use."""
    if sys.platform == "win32":
        return
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(
            f"{path} may be written by others (mode {stat.S_IMODE(mode):o}), "
            "who could add keys of their own",
            hint=f"chmod 600 {path}",
        )
    if mode & stat.S_IROTH:
        logger.warning("%s may be read by everybody; chmod 600 is better", path)


def _by_id(keys: Iterable[Key]) -> dict[str, Key]:
    return {key.id: key for key in keys}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
