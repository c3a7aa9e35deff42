"""The part on tuning of the page of measurements, from benchmarks/results/tuning.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Table = Callable[[Iterable[str], Iterable[Iterable[str]]], str]


def text(run: dict[str, Any], machine: str, table: Table) -> list[str]:
    """Markdown paragraphs; `table` makes one of a head and rows."""
    rows, gains, cores = [], [], run["machine"]["cores"]
    shared = [name for name, f in run["runs"].items() if f["load"] > 1.5 * cores]
    for name, figures in run["runs"].items():
        whole = figures["whole_model"]
        alone = name not in shared
        rows.append(
            (
                f"`{name}`",
                str(figures["layers"]),
                f"{figures['classes_measured']} of {figures['classes']}",
                f"{figures['variants_measured']} of {figures['variants']}",
                f"{figures['geometric_mean_gain']:.2f}",
                f"{whole['heuristic_ms']:.2f}" if whole and alone else "",
                f"{whole['tuned_ms']:.2f}" if whole and alone else "",
                f"{whole['ratio']:.2f}" if whole else "",
            )
        )
        gains += [
            (
                f"`{name}`",
                f"`{row['workload']}`",
                f"`{row['heuristic']}`",
                f"`{row['tuned']}`",
                f"{row['gain']:.2f}",
            )
            for row in figures["greatest_gains"][:3]
            if row["gain"] > 1
        ]
    head = (
        "network", "layers", "classes measured", "variants measured", "gain of the kernels",
        "untuned, ms", "tuned, ms", "ratio",
    )  # fmt: skip
    parts = [
        "## Tuning",
        (
            f"`benchmarks/tuning.py`, {run['budget']} for each line: how many times as fast as the "
            "heuristics' choice the fastest variant is that [tuning](../tuning.md) found, as the "
            "geometric mean over the layers; then the whole network by the heuristics and by the "
            "records, in turn. The aim is that the heuristics stay within 1.5 of the tuned "
            f"kernels. {run['device']['device']}, {run['device']['driver']}. {machine}"
        ),
        table(head, rows),
    ]
    if shared:
        names = ", ".join(f"`{name}`" for name in shared)
        parts.append(f"Other work shared the machine ({names}): there only the ratios count.")
    if gains:
        columns = ("network", "class of calls", "heuristic", "tuned", "gain")
        parts += ["The greatest gains:", table(columns, gains)]
    return parts
