"""The part of the measurements that is about start-up, from benchmarks/results/startup.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Table = Callable[[Iterable[str], Iterable[Iterable[str]]], str]
_NETWORKS = """\
From the start of Python to the first result of a network with random weights, medians. *Cold*:
both caches empty, Rekindle's and PoCL's, so that every kernel is compiled; *warm*: as the run
before has left them. *Reading* is reading the file and its message into arrays, which is part of
*open*. A network's launches share their kernels: one is compiled for each set of defines, all of
them as one program."""
_BUILDS = """\
Until all kernels of a network are built, caches empty: as one program, or each as its own."""


def text(run: Mapping[str, Any], machine: str, table: Table) -> list[str]:
    """Markdown parts; `table` makes one of a head and rows."""
    parts = [
        "## Start-up",
        f"`benchmarks/startup.py`: whole processes, wall clock, warm caches. {machine}",
        table(
            ("process", "median", "range"),
            (
                (f"`{name}`", _ms(row["median_s"]), f"{_ms(row['min_s'])} to {_ms(row['max_s'])}")
                for name, row in run["processes"].items()
            ),
        ),
    ]
    if rows := run.get("networks"):
        head = ("network", "caches", "to the first result", "import", "open", "reading",
                "first run", "second run", "launches", "kernels")  # fmt: skip
        parts += [_NETWORKS, table(head, (line for row in rows for line in _network(row)))]
    if ways := run.get("builds"):
        names = next(iter(ways.values())).keys()
        lines = (
            (f"`{model}`", *(f"{spent[way]:.1f} s" for way in names))
            for model, spent in ways.items()
        )
        parts += [_BUILDS, table(("network", *names), lines)]
    return parts


def _network(row: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for caches in ("cold", "warm"):
        found = row[caches]
        stages = ("ready_s", "import_s", "open_s", "read_s", "first_run_s", "second_run_s")
        yield (
            f"`{row['model']}`",
            caches,
            *(_ms(found[stage]) for stage in stages),
            f"{found['launches']:.0f}",
            f"{found['programs']:.0f}",
        )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms"
