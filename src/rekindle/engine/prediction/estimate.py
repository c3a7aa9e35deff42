"""All launches of a plan: what each would take on a device, and why. Estimates, no device."""

from __future__ import annotations

from dataclasses import dataclass

from rekindle.engine.isa.table import table
from rekindle.engine.kernels import Launch
from rekindle.engine.plan import HostStep, Plan
from rekindle.engine.prediction import card, processor
from rekindle.engine.prediction.card import Cost
from rekindle.engine.prediction.rates import Rates
from rekindle.engine.transfers import transfers
from rekindle.graph.cost import node_costs
from rekindle.graph.ir import Graph, Node


@dataclass(frozen=True)
class LaunchEstimate:
    """One launch, with the time from the one before it."""

    node: str
    operator: str
    kernel: str
    seconds: float
    flops: int
    moved_bytes: int
    cost: Cost


@dataclass(frozen=True)
class HostEstimate:
    """A node that runs on the host; None where its sizes depend on data."""

    node: str
    operator: str
    seconds: float | None
    reason: str


@dataclass(frozen=True)
class PlanEstimate:
    """A run from the inputs on the host to the outputs on the host."""

    launches: tuple[LaunchEstimate, ...]
    host: tuple[HostEstimate, ...]
    transfers_s: float
    """Inputs, outputs, and what host steps read and make."""
    waiting_s: float
    """The host seeing that the device has finished: once a run, and before each host step."""

    @property
    def kernels_s(self) -> float:
        return sum(launch.seconds for launch in self.launches)

    @property
    def host_s(self) -> float:
        return sum(step.seconds or 0.0 for step in self.host)

    @property
    def seconds(self) -> float:
        return self.kernels_s + self.host_s + self.transfers_s + self.waiting_s


def launch_cost(launch: Launch, rates: Rates) -> Cost:
    """By the family of the device."""
    if rates.family == "cpu":
        return processor.cost(launch, rates, processor.coefficients())
    return card.cost(launch, rates, table())


def estimate_plan(plan: Plan, rates: Rates) -> PlanEstimate:
    """Every launch after the one before it, as our one in-order queue runs them."""
    launches: list[LaunchEstimate] = []
    host: list[HostEstimate] = []
    for step in plan.steps:
        label = step.node.name or next(filter(None, step.node.outputs), "")
        if isinstance(step, HostStep):
            seconds = _host_s(plan.graph, step.node, rates)
            host.append(HostEstimate(label, step.node.qualified, seconds, step.reason))
            continue
        for launch in step.launches:
            found = launch_cost(launch, rates)
            launches.append(
                LaunchEstimate(
                    label,
                    step.node.qualified,
                    launch.chosen or launch.kernel,
                    found.seconds + rates.launch_s,
                    launch.flops,
                    launch.bytes_moved,
                    found,
                )
            )
    moved = sum(transfer.nbytes for transfer in transfers(plan))
    waits = 1 + len(host)
    return PlanEstimate(
        tuple(launches), tuple(host), moved / rates.link_bytes_s, waits * rates.round_trip_s
    )


def _host_s(graph: Graph, node: Node, rates: Rates) -> float | None:
    """NumPy on one core, by assumed rates."""
    values = [graph.values[name] for name in (*node.inputs, *node.outputs) if name]
    if not all(value.is_static for value in values):
        return None
    alone = graph.copy()
    alone.nodes = [node]
    (own,) = node_costs(alone)
    moved = own.bytes_read + own.bytes_written
    return max(own.flops / rates.host_flops_s, moved / rates.host_bytes_s)
