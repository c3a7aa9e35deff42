"""The page of instructions on Polaris, from benchmarks/results/isa.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Table = Callable[[Iterable[str], Iterable[Iterable[str]]], str]
_INTRODUCTION = """\
No Polaris card took part in this. The networks of the benchmark set are planned for an RX 580,
every kernel variant in the plans is compiled for gfx803 by clang 19, and its instructions are
counted. Each kernel's own file says what it promises, and `make isa` fails where that is broken:
no scratch memory, no `v_fma_f32` and no 32-bit integer multiplication in innermost loops (both run
at a quarter of the rate), enough waves on each SIMD to hide the latency of memory, at most 32 KiB
of local memory and 256 work-items, and the least share of multiply-adds among the vector
instructions of the hot loop. What a kernel does not keep stands below the table, with the reason.

The counts are facts about the compiled code. Times and shares of peak are **estimates**, as
[`rekindle estimate`](prediction.md) makes them."""


def text(run: dict[str, Any], table: Table) -> str:
    """Markdown; `table` makes one of a head and rows."""
    parts = ["# Instructions on Polaris", _INTRODUCTION]
    if run:
        variants = sum(line["variants"] for line in run["kernels"].values())
        machine = run["machine"]
        parts += [
            f"{variants} kernel variants, commit {machine['commit'][:10]}, {machine['date']}.",
            "## Kernels",
            table(_HEAD, (_row(*item) for item in run["kernels"].items())),
            *_unkept(run["kernels"]),
            "## Networks: estimates for an RX 580",
            table(
                ("network", "launches", "GFLOP", "ms, estimate", "of peak", "slowest launch"),
                (_network(*item) for item in run["models"].items()),
            ),
            *_history(run, table),
        ]
    return "\n\n".join(parts)


_FOLLOWED = ("resnet50 x1", "resnet50 x8", "mobilenet_v2 x1", "mobilenet_v2 x8")
_HEAD = (
    "kernel", "variants", "multiply-adds", "at least", "vector registers", "waves", "local, B",
    "scratch, B",
)  # fmt: skip


def _row(name: str, line: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = line["multiply_adds"]
    floors = [f"{line['floor']:.0%}"] if line["floor"] else ["none"]
    floors += [f"{define}: {floor:.0%}" for define, floor in line["floors"].items()]
    return (
        f"`{name}`",
        str(line["variants"]),
        f"{low:.0%} to {high:.0%}",
        ", ".join(floors),
        str(line["vgpr"]),
        f"{line['waves']:g}",
        str(line["lds_bytes"]),
        str(line["scratch_bytes"]),
    )


def _unkept(kernels: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        f"- `{name}`, {rule}: {reason}"
        for name, line in kernels.items()
        for rule, reason in line["unkept"].items()
    ]
    lines += [
        f"- `{name}`, {define} promises less: {reason}"
        for name, line in kernels.items()
        for define, reason in line["lower"].items()
    ]
    return ["Not promised:\n\n" + "\n".join(lines)] if lines else []


def _history(run: Mapping[str, Any], table: Table) -> list[str]:
    """How the estimates of two networks went, run by run, the last one included."""
    runs = [*run["history"], {"machine": run["machine"], "models": run["models"]}]
    shown = [key for key in _FOLLOWED if all(key in one["models"] for one in runs)]
    rows = [
        (
            f"{one['machine']['commit'][:10]}, {one['machine']['date']}",
            *(f"{one['models'][k]['ms']:.2f} ms, {one['models'][k]['share']:.1%}" for k in shown),
        )
        for one in runs
    ]
    head = ("commit", *(f"`{key}`" for key in shown))
    return ["## How the estimates went", table(head, rows)] if len(runs) > 1 else []


def _network(key: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    worst = found["slowest"][0]
    return (
        f"`{key}`",
        str(found["launches"]),
        f"{found['gflop']:.2f}",
        f"{found['ms']:.2f}",
        f"{found['share']:.1%}",
        f"`{worst['kernel']}`, {worst['seconds'] * 1e3:.2f} ms",
    )
