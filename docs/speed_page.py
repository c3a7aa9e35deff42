"""The page "How fast, and how we know", and its plots, from benchmarks/results/speed.json."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

Table = Callable[[Iterable[str], Iterable[Iterable[str]]], str]
OURS, REFERENCE = "rekindle", "onnxruntime"
NAMES = {
    OURS: "Rekindle",
    REFERENCE: "ONNX Runtime",
    "ncnn": "ncnn",
    "tinygrad": "tinygrad",
    "tinygrad-beam": "tinygrad, BEAM=2",
    "numpy": "NumPy (OpenBLAS)",
}
_CALM = 0.06
"""As in benchmarks/speed_cell.py: what a round may be disturbed."""
_INTRODUCTION = """\
Every cell below is one process on one machine, in which the engines run the same ONNX file on the
same inputs with the same number of threads. They take turns, A B A B …; between turns there is a
pause, so that no engine's spinning threads take the next one's time, and one run that does not
count. Times are wall clock, inputs on the host to outputs on the host. An engine's outputs are
compared with ONNX Runtime's before it is timed: what differs by more than 0.001 of the largest
value is not timed at all. The share of the processors that other processes took is measured in
every round; disturbed rounds are measured again, and a cell for which calm never came says so and
does not count in the mean.

*Ratio* is the median over the rounds of an engine's time over ONNX Runtime's in the same round:
below 1 is faster. ONNX Runtime is its CPU provider with all optimisations; ncnn runs batches item
by item, since it has none; tinygrad runs through OpenCL on the very driver that Rekindle uses.
Weights are random, which changes no time here."""


def text(
    run: dict[str, Any], profiles: dict[str, Any], history: list[dict[str, Any]], table: Table
) -> str:
    """Markdown; `table` makes one of a head and rows."""
    parts = ["# How fast, and how we know", _INTRODUCTION]
    cells = sorted(run.get("cells", {}).values(), key=lambda c: c["batch"])
    for batch in dict.fromkeys(c["batch"] for c in cells):
        chosen = [c for c in cells if c["batch"] == batch]
        networks = [c for c in chosen if "numpy" not in c["engines"]]
        products = [c for c in chosen if "numpy" in c["engines"]]
        if networks:
            parts += [f"## Networks, batch {batch}", _means(networks, table)]
            parts += [f"![Ratios](speed-batch{batch}.svg)", _cells(networks, table)]
        if products:
            parts += ["## Matrix products", _PRODUCTS, _cells(products, table)]
    if profiles:
        parts += ["## Where the time goes", *_profiles(profiles, table)]
    if run.get("machines"):
        parts += ["## Machines", *map(_machine, run["machines"].values())]
    if history:
        parts += ["## History", _HISTORY, _past(history, table)]
    parts.append("`make bench` measures again; `rekindle profile MODEL` shows where the time goes.")
    return "\n\n".join(parts)


_SHOWN = 0.03
"""Kernels with a smaller share of the time are left out."""
_IDEAS = """\
What stands between these figures and the goals, and what could be tried next:

- **Networks of products** (`bert_small`, `vit_small`): most of the time is in `matmul_tiled`, below
  the arithmetic's peak; a tile of 6 x 16 takes 15 of AVX2's 16 registers, so that nothing can be
  loaded ahead.
- **Networks of 1x1 convolutions** (`resnet50`): those on 7x7 pixels lie lowest. Blocking over input
  channels, as ONNX Runtime has it, is not built.
- **Small squeezes** (`squeezenet`, `mobilenet_v2`): many short layers. The means of
  squeeze-and-excitation could be summed by the depthwise kernel before them.
- **Small products** (`gemm-512`): beside the product itself a launch and its end take some tenths
  of a millisecond through PoCL's queue, which NumPy does not have."""
_PRODUCTS = (
    "`gemm-N` multiplies two N x N inputs, `gemm-N-weights` one with a constant that may be packed "
    "beforehand. NumPy and ONNX Runtime read the inputs where they lie; for Rekindle the transfers "
    "count."
)
_HISTORY = (
    "Geometric mean of Rekindle's median time over ONNX Runtime's, of the networks measured at "
    "each commit. Commits may have measured different sets."
)


def ratio(cell: Mapping[str, Any], engine: str) -> float | None:
    """Median over the rounds of the engine's time over ONNX Runtime's in the same process."""
    row = cell["engines"]
    ours = row.get(engine, {})
    base = ours.get("beside") or row.get(REFERENCE, {})
    if "rounds_ms" not in ours or "rounds_ms" not in base:
        return None
    return statistics.median(
        a / b for a, b in zip(ours["rounds_ms"], base["rounds_ms"], strict=True)
    )


def _engines(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    present = {engine for cell in cells for engine in cell["engines"]}
    first = [engine for engine in NAMES if engine in present]
    return first + sorted(present - set(first))


def _means(cells: list[dict[str, Any]], table: Table) -> str:
    rows = []
    for engine in _engines(cells):
        calm = [c for c in cells if _disturbed(c) <= _CALM]
        found = [r for c in calm if (r := ratio(c, engine)) is not None]
        if found and engine != REFERENCE:
            mean = math.exp(statistics.mean(map(math.log, found)))
            cell = f"{max(found):.2f}"
            rows.append(
                (
                    NAMES.get(engine, engine),
                    f"**{mean:.2f}**",
                    cell,
                    f"{len(found)} of {len(cells)}",
                )
            )
    return table(("engine", "geometric mean of ratios", "worst", "networks"), rows)


def _cells(cells: list[dict[str, Any]], table: Table) -> str:
    engines = [e for e in _engines(cells) if e != REFERENCE]
    head = ["model", "ONNX Runtime, ms", *(NAMES.get(e, e) + ", ms (ratio)" for e in engines)]
    rows, notes = [], []
    for cell in cells:
        row = cell["engines"]
        base = row.get(REFERENCE, {})
        worst = _disturbed(cell)
        mark = f" (disturbed: {worst:.0%})" if worst > _CALM else ""
        line = [f"`{cell['model']}`{mark}", _ms(base)]
        for engine in engines:
            figures, found = row.get(engine, {}), ratio(cell, engine)
            line.append(f"{_ms(figures)} ({found:.2f})" if found is not None else _ms(figures))
            if "failed" in figures:
                why = figures["failed"].replace("`", "'")
                notes.append(f"- {NAMES.get(engine, engine)}, `{cell['model']}`: {why}")
        rows.append(line)
    shown = table(head, rows)
    if notes:
        shown += "\n\nNot measured:\n\n" + "\n".join(notes)
    return shown


def _profiles(record: dict[str, Any], table: Table) -> Iterable[str]:
    yield (
        "`benchmarks/speed_profile.py`: what is not clearly faster than ONNX Runtime, or misses "
        "its goal, kernel by kernel. Each launch is timed by itself; in a walk they follow each "
        "other without a pause. *Roofline* is what the measured peaks allow, over the time: above "
        "100 % where tensors come from the caches."
    )
    for name, cell in record["cells"].items():
        model, _, batch = name.partition(":")
        yield (
            f"### {model}, batch {batch}\n\n{cell['launches']} launches, "
            f"{cell['kernels_ms']:.4g} ms in kernels; peak {cell['peak_gflops']:.0f} GFLOP/s."
        )
        yield table(
            ("kernel", "launches", "share", "GFLOP/s", "GB/s", "roofline"),
            (
                (f"`{row['kernel']}`", str(row["launches"]), f"{row['share']:.0%}",
                 f"{row['gflops']:.0f}", f"{row['gbytes_s']:.1f}", f"{row['roofline']:.0%}")
                for row in cell["kernels"] if row["share"] >= _SHOWN
            ),
        )  # fmt: skip
    yield _IDEAS


def _disturbed(cell: Mapping[str, Any]) -> float:
    return max((f.get("disturbed", 0.0) for f in cell["engines"].values()), default=0.0)


def _ms(figures: Mapping[str, Any]) -> str:
    if "failed" in figures:
        return "no"
    return f"{figures['median_ms']:.4g}" if "median_ms" in figures else ""


def _machine(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in machine["packages"].items() if v)
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads used; "
        f"{machine['system']}, Python {machine['python']}; {versions}."
    )


def _past(history: list[dict[str, Any]], table: Table) -> str:
    rows = []
    for entry in history:
        found = [
            cell[OURS] / cell[REFERENCE]
            for key, cell in entry["median_ms"].items()
            if OURS in cell and REFERENCE in cell and not key.startswith("gemm")
        ]
        if found:
            mean = math.exp(statistics.mean(map(math.log, found)))
            rows.append((entry["date"], entry["commit"][:10], str(len(found)), f"{mean:.2f}"))
    return table(("date", "commit", "cells", "ratio"), rows)


def plots(run: dict[str, Any]) -> dict[str, str]:
    """SVG text by file name: the ratios of each batch size."""
    cells = list(run.get("cells", {}).values())
    made = {}
    for batch in sorted({c["batch"] for c in cells}):
        chosen = [c for c in cells if c["batch"] == batch and "numpy" not in c["engines"]]
        if chosen:
            made[f"speed-batch{batch}.svg"] = _plot(chosen)
    return made


_COLOURS = ("#d9480f", "#1971c2", "#2f9e44", "#9c36b5", "#e8a200")
_LEFT, _WIDE, _ROW, _BAR, _LEAST, _MOST = 170, 560, 10, 8, 0.25, 32.0


def _plot(cells: list[dict[str, Any]]) -> str:
    """Bars from 1 (ONNX Runtime) on a logarithmic axis: to the left is faster."""
    engines = [e for e in _engines(cells) if e != REFERENCE]
    engines = [e for e in engines if any(ratio(c, e) is not None for c in cells)]
    block = _ROW * len(engines) + 10
    height = block * len(cells) + 60

    def x(value: float) -> float:
        part = math.log(min(max(value, _LEAST), _MOST) / _LEAST) / math.log(_MOST / _LEAST)
        return _LEFT + _WIDE * part

    drawn = []
    for mark in (0.25, 0.5, 1, 2, 4, 8, 16, 32):
        strong = "#444" if mark == 1 else "#bbb"
        drawn.append(
            f'<line x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="24" y2="{height - 30}" '
            f'stroke="{strong}"/><text x="{x(mark):.1f}" y="{height - 14}" '
            f'text-anchor="middle">{mark:g}</text>'
        )
    for k, engine in enumerate(engines):
        left, colour = _LEFT + 130 * k, _COLOURS[k % len(_COLOURS)]
        drawn.append(f'<rect x="{left}" y="6" width="10" height="10" fill="{colour}"/>')
        drawn.append(f'<text x="{left + 15}" y="15">{escape(NAMES.get(engine, engine))}</text>')
    for line, cell in enumerate(cells):
        top = 30 + line * block
        middle = top + (block - 10) / 2 + 4
        drawn.append(f'<text x="{_LEFT - 8}" y="{middle:.0f}" text-anchor="end">')
        drawn.append(f"{escape(cell['model'])}</text>")
        for k, engine in enumerate(engines):
            value = ratio(cell, engine)
            if value is not None:
                ends = sorted((x(1.0), x(value)))
                drawn.append(
                    f'<rect x="{ends[0]:.1f}" y="{top + k * _ROW}" height="{_BAR}" '
                    f'width="{max(ends[1] - ends[0], 1):.1f}" fill="{_COLOURS[k % 5]}">'
                    f"<title>{escape(engine)}: {value:.2f}</title></rect>"
                )
    width = _LEFT + _WIDE + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11" role="img">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )
