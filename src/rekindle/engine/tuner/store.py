"""Where records are kept: one file for each environment, in the cache folder.

Every measurement is written as soon as it is made. A file that cannot be read is said once and
counts as empty; another process's measurements are kept when this one writes.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from rekindle import _config
from rekindle._errors import UsageError
from rekindle._files import write_whole
from rekindle._log import debug, warn_once
from rekindle._types import Target
from rekindle.engine.tuner.records import (
    Environment,
    Measurement,
    TuningRecords,
    dumps,
    loads,
)


def stored(target: Target) -> TuningRecords | None:
    """The records that count on a target; None where there are none, or they are switched off."""
    if _config.flag("REKINDLE_IGNORE_TUNING") or not target.driver:
        return None
    records = read(Environment.of(target))
    return records if records.table else None


def read(environment: Environment) -> TuningRecords:
    """What is kept for an environment; empty where there is nothing, or nothing readable."""
    path = path_of(environment)
    try:
        written = path.stat().st_mtime_ns
    except OSError:
        return TuningRecords(environment)
    return _read(path, written, environment)


def path_of(environment: Environment) -> Path:
    key = hashlib.sha256(repr(environment).encode()).hexdigest()[:24]
    return _config.cache_dir() / "tuning" / f"{key}.json"


class Journal:
    """The records of one environment while they grow."""

    def __init__(self, environment: Environment) -> None:
        self.records = TuningRecords(environment)
        self.refresh()

    def add(self, name: str, *measurements: Measurement) -> None:
        """Keep measurements of a class; what else is there stays."""
        self.add_all((name, measurement) for measurement in measurements)

    def add_all(self, measurements: Iterable[tuple[str, Measurement]]) -> None:
        """Keep measurements, each with its class."""
        self.refresh()
        for name, measurement in measurements:
            self.records.add(name, measurement)
        self._write()

    def remove(self, name: str, *measurements: Measurement) -> None:
        """Forget them."""
        self.refresh()
        for measurement in measurements:
            self.records.remove(name, measurement.setting)
        self._write()

    def refresh(self) -> None:
        """What is in the file now, be it another process's."""
        found = read(self.records.environment)
        self.records.table = {name: dict(entries) for name, entries in found.table.items()}

    def _write(self) -> None:
        path = path_of(self.records.environment)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, dumps(self.records).encode())
            _read.cache_clear()  # a clock may be too coarse to tell two writes apart
        except OSError as error:
            raise UsageError(
                f"tuning records cannot be written to {path.parent}: {error.strerror}",
                hint="set REKINDLE_CACHE_DIR to a folder that can be written",
            ) from None


@functools.lru_cache(maxsize=8)
def _read(path: Path, _written: int, environment: Environment) -> TuningRecords:
    try:
        records, problems = loads(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        warn_once(f"tuning records are ignored: {path}: {error}")
    except UsageError as error:
        warn_once(f"tuning records are ignored: {error.message}")
    else:
        if records.environment == environment:
            for problem in problems:
                debug(1, "tuning record ignored: %s", problem)
            return records
        warn_once(f"tuning records are ignored: {path} is of {records.environment}")
    return TuningRecords(environment)
