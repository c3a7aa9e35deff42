"""Everything a set of plans runs, compiled for Polaris, counted and held against its promises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rekindle._types import Target
from rekindle.engine import kernels
from rekindle.engine.isa.assembly import Figures, compile_for_polaris, read
from rekindle.engine.isa.judgement import check, predict, useful, waves, work_group
from rekindle.engine.kernels import Isa, Launch
from rekindle.engine.program import Specialisation, specialisation, suffix

Variant = tuple[Specialisation, str, tuple[int, ...] | None]


@dataclass(frozen=True)
class Row:
    """One kernel variant: its figures, and the promises that it breaks."""

    launch: Launch
    figures: Figures
    waves: float
    broken: Mapping[str, str]
    """Rule and figures; empty where everything is kept."""
    promise: Isa

    @property
    def share(self) -> float:
        """Multiply-adds of the plain sum for each vector instruction of the hot loop."""
        hot = self.figures.hot
        return useful(self.figures, self.launch, self.promise) / max(hot.valu, 1)

    @property
    def kernel(self) -> str:
        return self.launch.chosen or self.launch.kernel


@dataclass(frozen=True)
class Report:
    rows: Mapping[Variant, Row]

    def of(self, launch: Launch) -> Row:
        return self.rows[variant(launch)]

    def broken(self) -> Iterator[tuple[Row, str, str]]:
        """Every broken promise: the row, the rule, the figures."""
        for row in self.rows.values():
            for rule, words in row.broken.items():
                yield row, rule, words

    def share_of_peak(self, launch: Launch, target: Target) -> float:
        """Predicted share of the card's multiply-adds; an estimate."""
        row = self.of(launch)
        return predict(row.figures, launch, target, row.promise)


def variant(launch: Launch) -> Variant:
    return specialisation(launch), launch.entry, launch.local_size


def report(launches: Iterable[Launch]) -> Report:
    """Compile each variant once (a tenth of a second each) and judge it.

    NotFoundError where the compiler is not installed.
    """
    rows = {}
    for key, (launch, figures) in compiled(launches).items():
        promise = kernels.REGISTRY.get(launch.chosen).isa
        broken = dict(check(figures, launch, promise))
        rows[key] = Row(launch, figures, waves(figures, work_group(launch)), broken, promise)
    return Report(rows)


def compiled(launches: Iterable[Launch]) -> dict[Variant, tuple[Launch, Figures]]:
    """The figures of each variant, with a launch of it. NotFoundError as `report`."""
    first: dict[Variant, Launch] = {}
    for launch in launches:
        first.setdefault(variant(launch), launch)
    found = {f.name: f for f in read(compile_for_polaris(spec for spec, _, _ in first))}
    return {
        key: (launch, found[f"{launch.entry}_{suffix(key[0])}"]) for key, launch in first.items()
    }


def by_kernel(rows: Iterable[Row]) -> dict[str, Sequence[Row]]:
    """Rows by kernel, in the order of names."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.kernel, []).append(row)
    return dict(sorted(groups.items()))
