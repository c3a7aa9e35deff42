"""The page of estimates: what they are made of, and how far they were off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Table = Callable[[Iterable[str], Iterable[Iterable[str]]], str]
_INTRODUCTION = """\
`rekindle estimate MODEL --device rx580` plans a model for a card of the architecture table and says
how long a run would take, layer by layer, how much memory it needs and what it would draw. No
OpenCL device takes part, and none was measured: it is an **estimate**, and prints what it rests on.

On graphics cards a launch takes the longer of two times. *Arithmetic*: its operations at the share
of peak that its instructions allow. They are **counted** in the kernel's gfx803 code (the package
carries the counts, written by `make isa`): multiply-adds in the hot loop over its scarcest
resource, waves that registers and local memory leave, how the grid fills the SIMDs in whole rounds
of waves, and the lanes that have something to write. A kernel without such a loop takes at least
its instructions once. *Memory*: its bytes at 86 % of the card's bandwidth (**published**: clpeak on
an RX 570), or at less where too few waves have loads under way. **Assumed** are 0.85 for what the
counts leave out, 8 µs from kernel to kernel, 400 clocks of latency; **published**, too, 43 µs
until the host sees the end, 15 GB/s between host and card, and the board power. Other cards than
those of the Polaris family are taken to run the same code as well as they do. What is read again
from caches that are too small for it is not counted.

On processors each kernel has five coefficients, **fitted** to measured launches: to start, of
arithmetic, of constants, of other values and of what is read again, over the measured peaks."""
_TRIED = """\
Measured on {machine}, through {device}, batch 1: the least time of each launch of {models}
networks, events on, against the estimate from the measured peaks ({flops:.0f} GFLOP/s,
{bytes:.1f} GB/s). Each network is tried with coefficients that were fitted on all the others and
never on itself; those in the package are fitted on all of them. Ranks are Spearman's correlation
of estimated and measured times, over launches and over layers (all launches of a node); the error
is that of the sum over all launches."""
_PUBLISHED = """\
What others published for cards of the family, and what we estimate for **our** kernels there, which
nobody has run: their kernels are other programs, so this is no measure of the estimate's error, but
it must not contradict it. Small networks are bound by launches and waiting, which these stacks have
many of. The nearest comparison is the last row: a product through local memory, as theirs is."""


def text(run: Mapping[str, Any], table: Table) -> str:
    """Markdown; `table` makes one of a head and rows."""
    parts = ["# Estimates, and how good they are", _INTRODUCTION]
    if rows := run.get("processor"):
        peaks, machine = run["peaks"], run["machine"]
        parts += [
            "## Against this project's machine",
            _TRIED.format(
                machine=f"{machine['processor']}, {machine['cores']} cores ({machine['date']}, "
                f"commit {machine['commit'][:10]})",
                device=run["device"],
                models=len(rows),
                flops=peaks["flops_s"] / 1e9,
                bytes=peaks["bandwidth_bytes_s"] / 1e9,
            ),
            table(
                ("network", "launches", "rank, launches", "rank, layers", "measured",
                 "estimate", "error"),
                map(_tried, rows),
            ),
            _verdict(rows),
        ]  # fmt: skip
    if rows := run.get("published"):
        parts += [
            "## Against published times",
            _PUBLISHED,
            table(
                ("card", "stack", "work", "batch", "published", "of peak", "our estimate",
                 "of peak", "estimate to published"),
                map(_published, rows),
            ),
        ]  # fmt: skip
    return "\n\n".join(parts)


def _tried(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"`{row['model']}`",
        str(row["launches"]),
        f"{row['rank_of_launches']:.3f}",
        f"{row['rank_of_layers']:.3f}",
        f"{row['kernels_s'] * 1e3:.2f} ms",
        f"{row['estimated_kernels_s'] * 1e3:.2f} ms",
        f"{row['error']:+.0%}",
    )


def _verdict(tried: list[Mapping[str, Any]]) -> str:
    """The goals, and what missed them."""
    goals = (
        ("rank of launches at least 0.9", lambda row: row["rank_of_launches"] >= 0.9),
        ("rank of layers at least 0.9", lambda row: row["rank_of_layers"] >= 0.9),
        ("sum within 30 %", lambda row: abs(row["error"]) <= 0.3),
    )
    lines = []
    for name, kept in goals:
        missed = [f"`{row['model']}`" for row in tried if not kept(row)]
        behind = f"; not {', '.join(missed)}" if missed else ""
        lines.append(f"- {name}: {len(tried) - len(missed)} of {len(tried)}{behind}")
    return "\n".join(lines)


def _published(row: Mapping[str, Any]) -> tuple[str, ...]:
    flops, peak = row["flops"], row["peak_flops_s"]
    return (
        row["card"],
        f"{row['stack']} ({row['source']})",
        row["work"],
        str(row["batch"]),
        f"{row['published_s'] * 1e3:.1f} ms",
        f"{flops / row['published_s'] / peak:.0%}",
        f"{row['estimated_s'] * 1e3:.1f} ms",
        f"{flops / row['estimated_s'] / peak:.0%}",
        f"{row['estimated_s'] / row['published_s']:.2f}",
    )
