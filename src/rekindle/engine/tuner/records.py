"""Tuning records: what was measured, under which device, driver and compiler, and for which class.

A record is data that anybody may have written: reading one never runs anything, every entry is
held against the declared space, and the planner asks again whether the call at hand admits it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from rekindle._errors import UsageError
from rekindle._types import Target
from rekindle.engine import kernels
from rekindle.engine.choices import Setting
from rekindle.engine.kernels import Context
from rekindle.engine.program import OPTIONS
from rekindle.engine.tuner.workload import workload
from rekindle.graph.lowering import LogicalCall

FORMAT, VERSION = "rekindle tuning records", 1
MARGIN = 0.97
"""A variant must be faster than the heuristic's by more than repeated measurements differ."""
_LARGEST_FILE = 16 << 20
_MOST_ENTRIES = 200_000
_WORKLOAD = re.compile(r"[a-z_]+ [ -~]{1,300}")
_SETTING = re.compile(r"([a-z][a-z0-9_]{0,63})((?: [A-Z]{1,12}=\d{1,6})*)")
Status = Literal["ok", "wrong", "broken", "started"]


@dataclass(frozen=True)
class Environment:
    """What a measurement depends on beside the call; records of another one do not count here."""

    device: str
    platform: str
    driver: str
    compute_units: int
    wavefront: int
    options: str

    @classmethod
    def of(cls, target: Target) -> Environment:
        # Mesa's names tell the running system's kernel, too, which compiles nothing.
        device = re.sub(r", DRM [^,)]*(, \d[^,)]*)?", "", target.name)
        lanes = target.wavefront
        options = " ".join(OPTIONS)
        return cls(device, target.platform, target.driver, target.compute_units, lanes, options)

    def __str__(self) -> str:
        return f"{self.device}, {self.compute_units} units, {self.driver}"


@dataclass(frozen=True)
class Measurement:
    """One variant on one class of calls, beside the heuristic's choice in the same rounds."""

    setting: Setting
    against: Setting
    """The heuristic's choice."""
    status: Status = "ok"
    """"wrong": another result. "broken": the driver refused it. "started": the tuner, or the
    driver, ended while it ran, and it is not tried again."""
    seconds: float = 0.0
    """The least of the rounds."""
    heuristic_s: float = 0.0
    """The heuristic's least, in the same turn."""
    ratio: float = 1.0
    """Its time over the heuristic's: the median over the rounds, or that of the least times where
    it is greater."""
    runs: int = 0
    reason: str = ""
    """Why it is wrong or broken."""
    imported: bool = False
    """Somebody else measured it."""

    @property
    def faster(self) -> bool:
        """Whether a plan should take it instead of the heuristic's choice."""
        return self.ratio < MARGIN

    @property
    def chosen(self) -> Setting:
        """What a plan takes, of the two."""
        return self.setting if self.faster else self.against

    @property
    def chosen_s(self) -> float:
        """Seconds of `chosen`, on the scale of `heuristic_s`."""
        return self.heuristic_s * (self.ratio if self.faster else 1.0)


Table = dict[str, dict[str, Measurement]]
"""Class of calls → kernel and variant → measurement."""


@dataclass
class TuningRecords:
    """All measurements of one environment; the planner's `choices.Records`."""

    environment: Environment
    table: Table = field(default_factory=dict)

    def best(self, call: LogicalCall, context: Context) -> Setting | None:
        """What was measured faster than the heuristic's choice, by more than `MARGIN`."""
        if not self.table:
            return None
        name = workload(call, context)
        found = self.fastest(name) if name else None
        return found.setting if found and found.faster else None

    def fastest(self, name: str) -> Measurement | None:
        """The least ratio of a class."""
        known = (m for m in self.table.get(name, {}).values() if m.status == "ok")
        return min(known, key=lambda m: m.ratio, default=None)

    def add(self, name: str, measurement: Measurement) -> None:
        self.table.setdefault(name, {})[str(measurement.setting)] = measurement

    def remove(self, name: str, setting: Setting) -> None:
        self.table.get(name, {}).pop(str(setting), None)

    def __len__(self) -> int:
        return sum(map(len, self.table.values()))


def dumps(records: TuningRecords) -> str:
    """The file's text."""
    workloads = {
        name: {key: _plain(m) for key, m in sorted(entries.items())}
        for name, entries in sorted(records.table.items())
        if entries
    }
    document = {
        "format": FORMAT,
        "version": VERSION,
        "environment": asdict(records.environment),
        "workloads": workloads,
    }
    return json.dumps(document, indent=1) + "\n"


def loads(text: str, what: str) -> tuple[TuningRecords, list[str]]:
    """The records in a file's text, and for each entry that is refused the reason.

    UsageError, which names the file as `what`, where it is no file of records at all.
    """
    if len(text) > _LARGEST_FILE:
        raise _refused(what, f"is larger than {_LARGEST_FILE >> 20} MiB")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(what, f"is not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _refused(what, f"does not say that it holds {FORMAT}")
    if document.get("version") != VERSION:
        raise _refused(
            what, f"is of version {document.get('version')!r}; this Rekindle reads {VERSION}"
        )
    environment = _environment(document.get("environment"))
    workloads = document.get("workloads")
    if environment is None or not isinstance(workloads, dict):
        raise _refused(what, "lacks its environment or its workloads")
    records, problems = TuningRecords(environment), []
    for number, (name, key, entry) in enumerate(_entries(workloads)):
        if number == _MOST_ENTRIES:
            raise _refused(what, f"has more than {_MOST_ENTRIES:,} entries")
        try:
            records.add(name, _measurement(name, key, entry))
        except ValueError as error:
            problems.append(f"{_short(name)}, {_short(key)}: {error}")
    return records, problems


def parse_setting(text: str) -> Setting:
    """`conv_tiled P=6 Q=1` in the declared space; ValueError says what is not in it."""
    found = _SETTING.fullmatch(text)
    if found is None:
        raise ValueError("this is no kernel with settings")
    name, *pairs = text.split(" ")
    if name not in kernels.REGISTRY:
        raise ValueError(f"there is no kernel {name}")
    tunables = kernels.REGISTRY.get(name).tunables
    if tunables is None:
        raise ValueError(f"{name} has nothing to tune")
    variant = tuple((key, int(value)) for key, value in (pair.split("=") for pair in pairs))
    if sorted(key for key, _ in variant) != sorted(tunables):
        raise ValueError(f"{name} is tuned by {', '.join(tunables) or 'nothing'}")
    for key, value in variant:
        if value not in tunables[key]:
            raise ValueError(f"{key}={value} is outside the declared space")
    return Setting(name, variant)


def _entries(workloads: Mapping[Any, Any]) -> Iterator[tuple[str, str, Any]]:
    for name, entries in workloads.items():
        if isinstance(entries, dict):
            for key, entry in entries.items():
                yield name, key, entry
        else:
            yield name, "", None


def _measurement(name: str, key: str, entry: Any) -> Measurement:
    """ValueError: why it is refused."""
    if not _WORKLOAD.fullmatch(name):
        raise ValueError("this names no class of calls")
    if not isinstance(entry, dict):
        raise ValueError("this is no measurement")
    setting, against = parse_setting(key), parse_setting(_text(entry, "against"))
    for one in (setting, against):
        if kernels.REGISTRY.get(one.kernel).call != name.split(" ")[0]:
            raise ValueError(f"{one.kernel} does not do this")
    status = _status(entry.get("status"))
    figures = {
        figure: _positive(entry, figure) if status == "ok" else 0.0
        for figure in ("seconds", "heuristic_s", "ratio")
    }
    runs = entry.get("runs")
    if type(runs) is not int or not 0 <= runs < 1_000_000:
        raise ValueError("runs is no count")
    sources = _text(entry, "sources")
    if not re.fullmatch(r"[0-9a-f]{0,64}", sources):
        raise ValueError("sources is no hash")
    return Measurement(
        Setting(setting.kernel, setting.variant, sources),
        against,
        status,
        **figures,
        runs=runs,
        reason="".join(c for c in _text(entry, "reason") if c.isprintable()),
        imported=entry.get("imported") is True,
    )


def _status(given: object) -> Status:
    for status in get_args(Status):
        if given == status:
            known: Status = status
            return known
    raise ValueError(f"status is none of {', '.join(get_args(Status))}")


def _plain(m: Measurement) -> dict[str, Any]:
    return {
        "status": m.status,
        "seconds": m.seconds,
        "heuristic_s": m.heuristic_s,
        "ratio": m.ratio,
        "runs": m.runs,
        "against": str(m.against),
        "sources": m.setting.sources,
        "reason": m.reason,
        "imported": m.imported,
    }


def _environment(entry: Any) -> Environment | None:
    kinds = {f.name: int if f.type == "int" else str for f in fields(Environment)}
    if not isinstance(entry, dict) or entry.keys() != kinds.keys():
        return None
    if any(type(entry[name]) is not kind for name, kind in kinds.items()):
        return None
    return Environment(**entry)


def _text(entry: Mapping[str, Any], key: str) -> str:
    text = entry.get(key, "")
    if not isinstance(text, str) or len(text) > 400:
        raise ValueError(f"{key} is no short text")
    return text


def _positive(entry: Mapping[str, Any], key: str) -> float:
    number = entry.get(key)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(f"{key} is no number")
    value = float(number) if abs(number) < 1e12 else math.inf
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{key} is not a positive number")
    return value


def _short(text: object) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in str(text))
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _refused(what: str, why: str) -> UsageError:
    return UsageError(
        f"{what} {why}", hint="`rekindle tune MODEL --export FILE` writes such a file"
    )
