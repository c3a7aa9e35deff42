"""What `rekindle tune` does: sizes as text, records in and out, the search and its table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rekindle import hub
from rekindle._errors import UsageError
from rekindle._types import Target
from rekindle.cli._arrays import check_sizes, parse_sizes
from rekindle.device import Device, select_device
from rekindle.engine.choices import choose
from rekindle.engine.peaks import peaks
from rekindle.engine.tuner.exchange import export_text, take_in
from rekindle.engine.tuner.records import Environment
from rekindle.engine.tuner.search import Search, Task
from rekindle.engine.tuner.store import Journal
from rekindle.graph import onnx_io
from rekindle.graph.ir import Graph
from rekindle.runtime import tuning
from rekindle.runtime._options import check_precision
from rekindle.runtime.benchmark import feeds_for
from rekindle.runtime.framework import detect
from rekindle.runtime.tuning import Convolution, TunedLayer, WholeModel

_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_LARGEST = 1 << 16
_MOST_ELEMENTS = 1 << 28
"""Of one tensor: a gigabyte."""


def parse_seconds(text: str) -> float:
    """`90`, `60s`, `5m`, `1h` in seconds; UsageError for anything else."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smh]?)", text.strip())
    if found is None:
        raise UsageError(f"--budget {text!r} is no time", hint="such as 60s, 5m or 1h")
    return float(found[1]) * _UNITS_S[found[2]]


def parse_counts(option: str, text: str, names: Sequence[str], needed: int) -> tuple[int, ...]:
    """Comma-separated sizes, at least `needed` of `names`; UsageError names what is wrong."""
    parts = [part.strip() for part in text.split(",")]
    wanted = ",".join(names[:needed]) + "".join(f"[,{name}]" for name in names[needed:])
    if not needed <= len(parts) <= len(names):
        raise UsageError(f"{option} {text!r} has {len(parts)} sizes", hint=f"{option} {wanted}")
    sizes = []
    for name, part in zip(names, parts, strict=False):
        if not re.fullmatch(r"\d{1,6}", part) or not 0 < int(part) <= _LARGEST:
            raise UsageError(
                f"{option} {text!r}: {name} is {part!r}, not a size from 1 to {_LARGEST}",
                hint=f"{option} {wanted}",
            )
        sizes.append(int(part))
    return tuple(sizes)


def parse_gemm(text: str) -> tuple[int, int, int]:
    m, n, k = parse_counts("--gemm", text, ("M", "N", "K"), 3)
    if max(m * n, n * k, m * k) > _MOST_ELEMENTS:
        raise UsageError(f"--gemm {text!r} has a matrix of more than {_MOST_ELEMENTS:,} numbers")
    return m, n, k


def parse_conv(text: str) -> Convolution:
    names = ("N", "C", "H", "W", "M", "K", "STRIDE", "GROUP")
    made = Convolution(*parse_counts("--conv", text, names, 6))
    if made.c % made.group or made.m % made.group:
        raise UsageError(
            f"--conv {text!r}: GROUP {made.group} does not divide C {made.c} and M {made.m}"
        )
    largest = max(
        made.n * made.c * made.height * made.width,
        made.n * made.m * made.height * made.width,
        made.m * made.c // made.group * made.kernel**2,
    )
    if largest > _MOST_ELEMENTS:
        raise UsageError(f"--conv {text!r} has a tensor of more than {_MOST_ELEMENTS:,} numbers")
    return made


@dataclass
class Question:
    """What is to be tuned, and where."""

    device: Device
    graph: Graph | None
    sizes: Mapping[str, int]
    gemms: Sequence[tuple[int, int, int]]
    convs: Sequence[Convolution]
    journal: Journal
    precision: str = "model"
    tasks: list[Task] = field(default_factory=list)

    @classmethod
    def ask(
        cls,
        model: str | None,
        gemms: Sequence[str],
        convs: Sequence[str],
        sizes: Sequence[str],
        device: str | None,
    ) -> Question:
        """Raises UsageError for sizes, and what loading a model and choosing a device raise."""
        products, convolutions = [*map(parse_gemm, gemms)], [*map(parse_conv, convs)]
        given = parse_sizes(sizes)
        if given and model is None:
            raise UsageError("--shape without a MODEL", hint="rekindle tune MODEL --shape N=8")
        graph = _load(model) if model else None
        if graph:
            check_sizes(graph.input_specs(), given, all_needed=False)
        chosen = select_device(device)
        journal = Journal(Environment.of(chosen.target()))
        return cls(chosen, graph, given, products, convolutions, journal)

    @property
    def target(self) -> Target:
        return self.device.target()

    def find_tasks(self, precision: str) -> None:
        """Plan, and see which calls can be tuned. Raises as planning does."""
        self.precision = check_precision(precision)
        if precision != "model" and self.graph is None:
            raise UsageError("a precision without a MODEL", hint="--gemm and --conv are fp32")
        calls = [pair for sizes in self.gemms for pair in tuning.product_calls(self.target, *sizes)]
        calls += [conv.call(self.target) for conv in self.convs]
        for call, context in calls:
            choose(call, context)  # says so where no kernel takes it
        if self.graph:
            feeds = feeds_for(self.graph.input_specs(), self.sizes)
            shapes = {name: array.shape for name, array in feeds.items()}
            calls += tuning.model_calls(self.graph, self.target, shapes, precision)
        self.tasks = tuning.tasks(calls)

    def take_in(self, path: Path) -> dict[str, Any]:
        """Import a file of records; UsageError where it is none."""
        try:
            if path.stat().st_size > 64 << 20:
                raise UsageError(f"{path} is too large to be a file of records")
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} cannot be read: {error}", hint="--import FILE") from None
        taken = take_in(self.journal, text, str(path))
        return {"path": str(path)} | asdict(taken)

    def write_out(self, path: Path) -> dict[str, Any]:
        """Export this device's records; UsageError where that cannot be done."""
        self.journal.refresh()
        text, count = export_text(self.journal.records)
        if not count:
            raise UsageError(
                "there are no records of this device to export", hint="rekindle tune MODEL first"
            )
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{path} cannot be written: {error.strerror}", hint="choose another --export"
            ) from None
        return {"path": str(path), "records": count}

    def tune(self, budget_s: float, progress: Callable[[float, str], None]) -> Tuned:
        """Search until the budget is used up or nothing is left; Ctrl-C ends it, too."""
        tuned = Tuned(self)
        if not self.tasks or not budget_s:
            return tuned
        search = Search(self.device, self.tasks, self.journal, peaks(self.device), budget_s)
        progress(0.0, f"{len(self.tasks)} classes of calls")
        try:
            for turn in search.run():
                progress(turn.elapsed_s, f"{turn.task.name}, {turn.left} variants left")
                tuned.searched_s, tuned.turns = turn.elapsed_s, tuned.turns + 1
        except KeyboardInterrupt:
            tuned.interrupted = True
        return tuned


@dataclass
class Tuned:
    """The outcome, for programs and for people."""

    question: Question
    searched_s: float = 0.0
    turns: int = 0
    interrupted: bool = False
    whole: WholeModel | None = None

    def compare_whole(self) -> None:
        """Run the model by the heuristics and by the records, in turn."""
        asked = self.question
        asked.journal.refresh()
        if asked.graph is None or self.interrupted or not asked.journal.records.table:
            return
        feeds = feeds_for(asked.graph.input_specs(), asked.sizes)
        self.whole = tuning.whole_model(
            asked.graph, asked.device, feeds, asked.journal.records, asked.precision
        )

    def layers(self) -> list[TunedLayer]:
        records = self.question.journal.records
        if self.question.tasks or self.question.graph:
            return tuning.layers(self.question.tasks, records)
        return tuning.known_layers(records)

    def to_dict(self) -> dict[str, Any]:
        asked, rows = self.question, self.layers()
        records = asked.journal.records
        entries = [(name, m) for name, known in records.table.items() for m in known.values()]
        told: dict[str, list[str]] = {"wrong": [], "broken": []}
        for name, m in entries:
            if m.status in told:
                told[m.status].append(f"{name}: {m.setting}: {m.reason}")
        return {
            **asdict(records.environment),
            "searched_s": self.searched_s,
            "turns": self.turns,
            "interrupted": self.interrupted,
            "layers": tuning.to_dict(rows),
            "geometric_mean_gain": tuning.geometric_mean(rows),
            "whole_model": asdict(self.whole) if self.whole else None,
            "left": sum(len(task.left(asked.journal)) for task in asked.tasks),
            **told,
        }


def _load(model: str) -> Graph:
    path = hub.resolve(model).path
    framework = detect(path)
    if framework != "onnx":
        from rekindle.runtime.export.onnx import to_onnx

        path = to_onnx(path, framework)
    return onnx_io.load(path)
