"""How fast the engines are on the same models, inputs, threads and machine.

    python benchmarks/speed.py [--models resnet18,gemm-1024] [--batch 1,8]
                               [--engines rekindle,onnxruntime,ncnn,tinygrad] [--again]

Every cell (a model at a batch size) is one process in which the engines take turns
(speed_cell.py); where an engine takes that process down, it is measured alone with ONNX Runtime.
Cells already measured at this commit are left as they are, so that a run can be taken up again.
`--prepare` only exports, compiles and compares, which fills the caches. Writes
benchmarks/results/speed.json, and one line for this commit into speed_history.jsonl.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from machine import describe
from speed_cell import CALM
from speed_models import NETWORKS, PRODUCTS
from speed_peers import OURS, REFERENCE

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "speed.json"
HISTORY = HERE / "results" / "speed_history.jsonl"
FOLDER = HERE.parent / "build" / "speed"
ENGINES = (OURS, REFERENCE, "ncnn", "tinygrad")
LIMIT_S = 3600
Row = dict[str, dict[str, Any]]


def main() -> None:
    options = _options()
    machine = describe() | {"threads": options.threads}
    table = _read(options.out)
    for model in options.models:
        for batch in options.batch:
            if model in PRODUCTS and batch != 1:
                continue
            engines = [*options.engines, *(["numpy"] if model in PRODUCTS else [])]
            if REFERENCE not in engines:
                engines.insert(0, REFERENCE)
            engines.sort(key=lambda name: name != REFERENCE)  # the reference's result comes first
            key = f"{model} x{batch}"
            done = table["cells"].get(key, {})
            same = done.get("commit") == machine["commit"]
            left = [e for e in engines if not (same and e in done["engines"])]
            if not left and not options.again and not options.prepare:
                print(f"{key}: measured at this commit")
                continue
            row = measure(model, batch, engines, options)
            show(key, row)
            if not options.prepare:
                table["cells"][key] = _cell(
                    model, batch, row, machine, _lasting_engines(done, machine)
                )
                table["machines"][_digest(machine)] = _lasting(machine)
                _write(options.out, table)
    if not options.prepare and options.out == RESULT:
        remember(table, machine["commit"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words = lambda text: [word for word in text.split(",") if word]  # noqa: E731
    parser.add_argument("--models", type=words, default=[*NETWORKS, *PRODUCTS])
    parser.add_argument("--batch", type=lambda text: [int(n) for n in words(text)], default=[1, 8])
    parser.add_argument("--engines", type=words, default=list(ENGINES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument(
        "--patience", type=float, default=60.0, help="seconds to wait for calm rounds, a cell"
    )
    parser.add_argument("--again", action="store_true", help="measure what is measured already")
    parser.add_argument("--prepare", action="store_true", help="fill the caches, measure nothing")
    parser.add_argument("--out", type=Path, default=RESULT, help="another file, without history")
    return parser.parse_args()


def measure(model: str, batch: int, engines: Sequence[str], options: argparse.Namespace) -> Row:
    """All engines in one process; if that ends badly, each with the reference alone."""
    row = _process(model, batch, engines, options)
    if row is not None:
        return row
    merged: Row = {}
    for engine in engines:
        if engine == REFERENCE:
            continue
        pair = _process(model, batch, [REFERENCE, engine], options)
        if pair is None:
            merged[engine] = {"failed": "its process ended, or took too long"}
        elif engine == OURS or REFERENCE not in merged:
            merged |= pair
        else:
            # Its own ONNX Runtime times, so that the ratio is one of a single process.
            merged[engine] = pair[engine] | {"beside": pair[REFERENCE]}
    return merged


def _process(
    model: str, batch: int, engines: Sequence[str], options: argparse.Namespace
) -> Row | None:
    rounds = 0 if options.prepare else options.rounds
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "row.json"
        orders = {
            "model": model, "batch": batch, "engines": list(engines), "rounds": rounds,
            "threads": options.threads, "patience_s": options.patience, "folder": str(FOLDER),
            "out": str(out),
        }  # fmt: skip
        command = [sys.executable, str(HERE / "speed_cell.py")]
        try:
            subprocess.run(
                command, input=json.dumps(orders), text=True, check=False, timeout=LIMIT_S,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
        row: Row = json.loads(out.read_text(encoding="utf-8")) if out.exists() else None
        return row


def ratio(row: Row, engine: str, base: str = REFERENCE) -> float | None:
    """Median over the rounds of engine's time / base's time; None where one was not measured."""
    ours = row.get(engine, {})
    other = ours.get("beside") or row.get(base, {})
    if "rounds_ms" not in ours or "rounds_ms" not in other:
        return None
    pairs = zip(ours["rounds_ms"], other["rounds_ms"], strict=True)
    return statistics.median(a / b for a, b in pairs)


def show(key: str, row: Row) -> None:
    for engine, figures in row.items():
        if "failed" in figures:
            text = figures["failed"]
        elif "median_ms" in figures:
            over = ratio(row, engine)
            text = f"{figures['median_ms']:10.2f} ms  {over or 0:6.2f} x ONNX Runtime"
            text += f"  disturbed {figures['disturbed']:.0%}" * (figures["disturbed"] > CALM)
        else:
            text = f"ready in {figures['setup_s']:.1f} s"
        print(f"{key:24} {engine:14} {text}", flush=True)


def remember(table: dict[str, Any], commit: str) -> None:
    """One line a commit: milliseconds of every engine measured at it, by cell."""
    medians = {
        key: {e: f["median_ms"] for e, f in cell["engines"].items() if "median_ms" in f}
        for key, cell in table["cells"].items()
        if cell["commit"] == commit
    }
    lines = HISTORY.read_text(encoding="utf-8").splitlines() if HISTORY.exists() else []
    kept = [line for line in lines if json.loads(line)["commit"] != commit]
    cells = [c for c in table["cells"].values() if c["commit"] == commit]
    if cells:
        entry = {"commit": commit, "date": cells[0]["date"], "machine": cells[0]["machine"]}
        kept.append(json.dumps(entry | {"median_ms": medians}))
    HISTORY.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _cell(model: str, batch: int, row: Row, machine: dict[str, Any], before: Row) -> dict[str, Any]:
    return {
        "model": model,
        "batch": batch,
        "commit": machine["commit"],
        "date": machine["date"],
        "machine": _digest(machine),
        "engines": _kept(before, row) | row,
    }


def _lasting_engines(done: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
    """What of an earlier measurement still holds: at another commit what is not ours."""
    if done.get("machine") != _digest(machine):
        return {}
    same = done["commit"] == machine["commit"]
    return {e: f for e, f in done["engines"].items() if same or e != OURS}


def _kept(before: Row, row: Row) -> Row:
    """Engines that were not measured this time, each with the reference's times of its own run."""
    if REFERENCE not in before:
        return before
    beside = {"beside": before[REFERENCE]}
    return {
        engine: (beside if "rounds_ms" in figures else {}) | figures
        for engine, figures in before.items()
        if engine not in row
    }


def _lasting(machine: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in machine.items() if k not in ("commit", "date")}


def _digest(machine: dict[str, Any]) -> str:
    text = json.dumps(_lasting(machine), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _read(path: Path) -> dict[str, Any]:
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    return {"machines": {}, "cells": {}}


def _write(path: Path, table: dict[str, Any]) -> None:
    used = {cell["machine"] for cell in table["cells"].values()}
    table["machines"] = {k: m for k, m in table["machines"].items() if k in used}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(table, indent=1)
    path.write_text(_on_one_line(text.splitlines()), encoding="utf-8")


def _on_one_line(lines: Iterable[str]) -> str:
    """Lists of numbers on one line: a file that people can read and diff."""
    out: list[str] = []
    for line in lines:
        word = line.strip()
        if (
            out
            and (out[-1].endswith("[") or out[-1].rstrip(",")[-1:].isdigit())
            and (word.rstrip(",").replace(".", "").isdigit() or word.startswith("]"))
        ):
            out[-1] += word if out[-1].endswith("[") or word.startswith("]") else f" {word}"
        else:
            out.append(line)
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    main()
