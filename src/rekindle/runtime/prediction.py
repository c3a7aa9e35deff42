"""How long a model would take on a card that is not here, and what that would draw. An estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rekindle._types import Target
from rekindle.device.architectures import Architecture
from rekindle.engine.isa.judgement import DERATE
from rekindle.engine.isa.table import table
from rekindle.engine.prediction.card import Basis
from rekindle.engine.prediction.estimate import LaunchEstimate, PlanEstimate, estimate_plan
from rekindle.engine.prediction.rates import Fact, Origin, Rates, of_card
from rekindle.graph import passes
from rekindle.graph.ir import Graph
from rekindle.runtime.estimate import MemoryEstimate, memory_of
from rekindle.runtime.providers.opencl import plan_for


@dataclass(frozen=True)
class LayerEstimate:
    """A node with all its launches."""

    node: str
    operator: str
    kernels: tuple[str, ...]
    seconds: float
    flops: int
    moved_bytes: int
    limit: str
    """What most of its time goes to: compute, memory, launch."""
    share: float
    """Of the card's peak that its operations get in that time."""
    basis: Basis
    """The least certain one of its launches."""


_CERTAINTY: tuple[Basis, ...] = ("counted", "fitted", "nearest", "assumed")


@dataclass(frozen=True)
class TimeEstimate:
    """One run, from inputs on the host to outputs on the host."""

    rates: Rates
    batch: int | None
    """Pictures, texts or what else the first dimension counts; None: it is not one for all."""
    plan: PlanEstimate
    layers: tuple[LayerEstimate, ...]
    flops: int
    moved_bytes: int
    memory: MemoryEstimate
    facts: tuple[Fact, ...]

    @property
    def seconds(self) -> float:
        return self.plan.seconds

    @property
    def energy_j(self) -> float | None:
        """At the card's board power all the time; None where the table has none."""
        return None if self.rates.power_w is None else self.rates.power_w * self.seconds

    def to_dict(self) -> dict[str, Any]:
        per_second = self.batch / self.seconds if self.batch else None
        return {
            "target": self.rates.name,
            "seconds": self.seconds,
            "kernels_s": self.plan.kernels_s,
            "transfers_s": self.plan.transfers_s,
            "waiting_s": self.plan.waiting_s,
            "host_s": self.plan.host_s,
            "per_second": per_second,
            "flops": self.flops,
            "moved_bytes": self.moved_bytes,
            "share_of_peak": self.flops / self.seconds / self.rates.flops_s,
            "energy_j": self.energy_j,
            "launches": len(self.plan.launches),
            "layers": [asdict(layer) for layer in self.layers],
            "host_steps": [asdict(step) for step in self.plan.host],
            "memory": self.memory.to_dict(),
            "facts": [asdict(fact) for fact in self.facts],
        }


def estimate_time(
    graph: Graph,
    row: Architecture,
    target: Target,
    shapes: Mapping[str, tuple[int, ...]],
    precision: str = "model",
    limit_bytes: int | None = None,
) -> TimeEstimate:
    """Plan a loaded graph for a row of the architecture table, and time the plan; no device.

    Raises as planning does: ModelError, UnsupportedOperatorError, InputError.
    """
    rates = of_card(row)
    portable = passes.run(graph, passes.portable(precision))
    made = plan_for(portable, target, shapes, precision)
    found = estimate_plan(made, rates)
    return TimeEstimate(
        rates,
        _batch(shapes),
        found,
        _layers(found, rates),
        sum(launch.flops for launch in found.launches),
        sum(launch.moved_bytes for launch in found.launches),
        memory_of(portable, made, shapes, limit_bytes, precision),
        (*rates.facts, *_kernels(found, rates)),
    )


def _batch(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    firsts = {shape[0] for shape in shapes.values() if shape}
    return firsts.pop() if len(firsts) == 1 else None


def _layers(found: PlanEstimate, rates: Rates) -> tuple[LayerEstimate, ...]:
    groups: dict[tuple[str, str], list[LaunchEstimate]] = {}
    for launch in found.launches:
        groups.setdefault((launch.node, launch.operator), []).append(launch)
    return tuple(
        LayerEstimate(
            node,
            operator,
            tuple(dict.fromkeys(launch.kernel for launch in own)),
            sum(launch.seconds for launch in own),
            sum(launch.flops for launch in own),
            sum(launch.moved_bytes for launch in own),
            _limit(own, rates),
            sum(launch.flops for launch in own)
            / (rates.flops_s * sum(launch.seconds for launch in own)),
            max((launch.cost.basis for launch in own), key=_CERTAINTY.index),
        )
        for (node, operator), own in groups.items()
    )


def _limit(own: list[LaunchEstimate], rates: Rates) -> str:
    spent = {"compute": 0.0, "memory": 0.0, "launch": len(own) * rates.launch_s}
    for launch in own:
        spent[launch.cost.limit] += launch.cost.seconds
    return max(spent, key=lambda name: spent[name])


def _kernels(found: PlanEstimate, rates: Rates) -> list[Fact]:
    """What the launches' own figures rest on."""
    if rates.family == "cpu":
        words = "coefficients of each kernel, fitted on another processor by its own peaks"
        return [Fact("kernels", float(len(found.launches)), "launches", "fitted", words)]
    compiler = f"instructions of gfx803 code by {table().compiler}"
    nearest = f"as the nearest that was compiled; {compiler}"
    if not rates.gfx803:
        nearest = f"another chip, taken to do as well as gfx803; {compiler}"
    rows: tuple[tuple[Basis, str, Origin, str], ...] = (
        ("counted", "of compiled variants", "counted", compiler),
        ("nearest", "of other code", "assumed", nearest),
        ("assumed", "of other kernels", "assumed", "a quarter of peak"),
    )
    facts = []
    for basis, name, origin, source in rows:
        if count := sum(launch.cost.basis == basis for launch in found.launches):
            facts.append(Fact(f"launches {name}", float(count), "launches", origin, source))
    left_out = "caches and instruction issue"
    derate = Fact("what counts leave out", DERATE, "of that speed", "assumed", left_out)
    return [*facts, derate]
