"""What particular drivers do wrong, as data (quirks.toml): pattern in, effects out."""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

EFFECTS = {
    "no_float16_builtins": "never pass a float16 by value to a builtin: the process would end",
    "slow_fma": "fma() is far slower than a*b+c",
    "slow_mad": "mad() is slower than a*b+c",
    "float8_vectors": "eight lanes whatever it reports: a float16 takes two registers",
    "no_inline_asm": "inline assembly ends the process",
    "lds_32k": "a work-group may have 32 KiB of local memory at most",
    "unsupported": "not chosen unless asked for by name",
}
"""Every effect a quirk can have, and what it asks of those who plan for the device."""


@dataclass(frozen=True)
class Quirk:
    """One row of quirks.toml: where it applies, what follows, why, and who says so."""

    key: str
    effects: tuple[str, ...]
    """Keys of `EFFECTS`; none where the row only switches kernels off."""
    reason: str
    source: str
    platform: str = ""
    version: str = ""
    device: str = ""
    driver: str = ""
    disabled_kernels: tuple[str, ...] = ()
    """Kernels that this driver gets wrong, or hangs in: planning leaves them out."""


@functools.cache
def quirks() -> tuple[Quirk, ...]:
    """All rows of quirks.toml, in its order."""
    text = resources.files("rekindle.device").joinpath("quirks.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["quirk"]
    return tuple(map(_quirk, rows))


def quirks_of(*, platform: str, version: str, device: str, driver: str) -> tuple[Quirk, ...]:
    """The quirks of a device: its platform's name and version, its own names, its driver."""
    return tuple(
        quirk
        for quirk in quirks()
        if _fits(quirk.platform, platform)
        and _fits(quirk.version, version)
        and _fits(quirk.device, device)
        and _fits(quirk.driver, driver)
    )


def _quirk(row: dict[str, Any]) -> Quirk:
    lists = {key: tuple(row.get(key, ())) for key in ("effects", "disabled_kernels")}
    return Quirk(**{**row, **lists})


def _fits(pattern: str, text: str) -> bool:
    return not pattern or re.search(pattern, text, re.IGNORECASE) is not None
