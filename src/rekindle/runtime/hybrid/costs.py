"""From units and a calibration to the table that `partition` works on. All of it is estimates."""

from __future__ import annotations

from collections.abc import Sequence, Set

from rekindle._types import DType
from rekindle.engine.kernels import Launch
from rekindle.engine.plan import DeviceStep
from rekindle.graph.cost import NodeCost, node_costs
from rekindle.graph.ir import Graph, Value
from rekindle.graph.order import reads
from rekindle.runtime.hybrid.calibration import Calibration, Link, SideRates
from rekindle.runtime.hybrid.partition import Problem, Traffic
from rekindle.runtime.hybrid.units import Unit

_CONVOLUTIONS = ("Conv", "ConvTranspose", "FusedConv", "QLinearConv", "ConvInteger")


def problem_of(
    graph: Graph, units: Sequence[Unit], calibration: Calibration, not_on_cpu: Set[str]
) -> Problem:
    """Estimated nanoseconds of each unit on each side, and the values between units.

    `not_on_cpu` names nodes (by an output) that ONNX Runtime cannot run. Where the device has no
    kernel either, a unit counts as one on the CPU: its reference computes it there.
    """
    costs = {id(cost.node): cost for cost in node_costs(graph)}
    device: list[int | None] = []
    cpu: list[int | None] = []
    for unit in units:
        possible = unit.impossible is None
        refused = possible and not not_on_cpu.isdisjoint(unit.outputs())
        own = [costs[id(node)] for node in unit.nodes]
        device.append(_device_ns(unit, own, calibration.device) if possible else None)
        cpu.append(None if refused else _cpu_ns(graph, unit, own, calibration.cpu))
    return Problem(device, cpu, _traffic(graph, units, calibration))


def _device_ns(unit: Unit, costs: Sequence[NodeCost], rates: SideRates) -> int:
    """Every launch waits for the one before it; then the roofline of the unit as a whole.

    FLOPs are the model's own, as they are where the rates were measured: an algorithm that saves
    some (Winograd's) has a higher rate.
    """
    launches: list[Launch] = [
        launch for step in unit.steps if isinstance(step, DeviceStep) for launch in step.launches
    ]
    if not launches:
        return 0
    moved = sum(launch.bytes_moved for launch in launches)
    flops = sum(cost.flops for cost in costs)
    calls = len(launches)
    return rates.nanoseconds(flops, moved, calls=calls, convolves=_convolves(unit))


def _cpu_ns(graph: Graph, unit: Unit, costs: Sequence[NodeCost], rates: SideRates) -> int:
    """One call for the unit: ONNX Runtime fuses much as the device does."""
    moved = sum(cost.bytes_read + cost.bytes_written for cost in costs)
    if len(costs) > 1:
        made = set(unit.outputs())
        read = {name for node in unit.nodes for name in reads(node)} - made
        ends = (*read, *filter(None, unit.nodes[-1].outputs))
        moved = min(moved, sum(_nbytes(graph.values[name]) for name in ends))
    flops = sum(cost.flops for cost in costs)
    return rates.nanoseconds(flops, moved, convolves=_convolves(unit))


def _convolves(unit: Unit) -> bool:
    return any(node.op_type in _CONVOLUTIONS for node in unit.nodes)


def _traffic(graph: Graph, units: Sequence[Unit], calibration: Calibration) -> list[Traffic]:
    maker = {name: index for index, unit in enumerate(units) for name in unit.outputs()}
    readers: dict[str, set[int]] = {}
    for index, unit in enumerate(units):
        for node in unit.nodes:
            for name in reads(node):
                if name not in graph.initializers and maker.get(name) != index:
                    readers.setdefault(name, set()).add(index)
    returned = set(graph.outputs)
    return [
        Traffic(
            maker.get(name),
            tuple(sorted(readers.get(name, ()))),
            name in returned,
            _move_ns(graph.values[name], calibration.upload),
            _move_ns(graph.values[name], calibration.download),
        )
        for name in (*graph.inputs, *maker)
        if name in readers or name in returned
    ]


def _move_ns(value: Value, link: Link) -> int:
    return link.nanoseconds(_nbytes(value))


def _nbytes(value: Value) -> int:
    """Bytes row-major; a value whose shape depends on data counts as none, for it never moves."""
    return value.nbytes if value.is_static and value.dtype is not DType.STRING else 0
