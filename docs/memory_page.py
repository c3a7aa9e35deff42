"""The page of memory plans, from benchmarks/results/memory.json."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from typing import Any

Table = Callable[[Iterable[str], Iterable[Iterable[str]]], str]
MIB = 1 << 20


def text(run: dict[str, Any], table: Table) -> str:
    """Markdown; `table` makes one of a head and rows."""
    parts = ["# Memory", _INTRODUCTION]
    if run:
        plans = run["plans"]
        worst = max(plans, key=_over)
        networks = len({p["model"] for p in plans})
        batches = " and ".join(str(b) for b in sorted({p["batch"] for p in plans}))
        summary = (
            f"Over {networks} networks, batch {batches}, the peak is at most "
            f"**{_over(worst):.3f} x** the lower bound ({worst['model']}, batch {worst['batch']}, "
            f"{worst['target']}). `make bench-memory` plans them again: no device is needed, and "
            f"the figures are the same on every machine. Commit {run['machine']['commit'][:10]}, "
            f"{run['machine']['date']}."
        )
        parts.append(textwrap.fill(summary, 100, break_long_words=False, break_on_hyphens=False))
        for target in dict.fromkeys(p["target"] for p in plans):
            chosen = [p for p in plans if p["target"] == target and p["batch"] == 1]
            parts += [f"## {target}, batch 1, MiB", table(_HEAD, map(_row, chosen))]
    return "\n\n".join(parts)


_INTRODUCTION = """\
A plan knows every byte before a device is touched. Activations share memory by lifetime: *peak* is
what they take, *lower bound* the largest sum alive at one step, which no plan can go below, *sum*
what they would take side by side; all with sizes aligned as the device wants them. Weights are
counted in the order that the kernels want, which may be larger than in the file.

Where weights and activations do not fit (`memory_limit=`, `--memory-limit 2GB`, or the card
itself), weights are streamed: they stay in the computer's memory, and a second queue copies them
into one of two regions of the device while the kernels read the other. The results are the same
bit for bit. `session.placement.streaming` tells how many bytes that is in every run. *Least* is
the smallest limit that the model runs within; *streamed* is what it sends in a run where half of
the weights fit beside the activations."""

_HEAD = (
    "network", "weights", "peak", "lower bound", "peak / bound", "sum", "buffers", "least",
    "streamed",
)  # fmt: skip


def _over(plan: dict[str, Any]) -> float:
    return float(plan["peak_bytes"] / max(plan["lower_bound_bytes"], 1))


def _row(plan: dict[str, Any]) -> tuple[str, ...]:
    return (
        plan["model"],
        _mib(plan["weight_bytes"]),
        _mib(plan["peak_bytes"]),
        _mib(plan["lower_bound_bytes"]),
        f"{_over(plan):.3f}",
        _mib(plan["sum_bytes"]),
        str(plan["buffers"]),
        _mib(plan["least_bytes"]),
        _mib(plan["half_streamed_bytes"]),
    )


def _mib(nbytes: int) -> str:
    return f"{nbytes / MIB:,.1f}"
