"""Measures both sides of this machine with the same few small networks, and the way between."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rekindle._types import DType
from rekindle.device import Device
from rekindle.engine.executor import Executor
from rekindle.engine.trace import Trace
from rekindle.engine.transfer_probe import measure_transfers
from rekindle.engine.weights import Weights
from rekindle.graph.cost import node_costs
from rekindle.graph.infer import bind
from rekindle.graph.ir import Array, Graph, Node, Value
from rekindle.runtime.hybrid.calibration import Calibration, Link, SideRates
from rekindle.runtime.providers.onnxruntime import CpuPart
from rekindle.runtime.providers.opencl import plan_for

_REPEATS = 4
_CHAIN = 32
"""Small operations, one behind the other: what is between their starts is the call."""
_NEVER = 1.0
"""FLOP/s or bytes/s where the device has no kernel for a probe: nothing goes there for speed."""


@dataclass(frozen=True)
class Probe:
    """A network whose work is known, and its input."""

    graph: Graph
    feeds: Mapping[str, Array]
    flops: int
    moved_bytes: int


def measure(device: Device, key: Mapping[str, str]) -> Calibration:
    """Calibrate a device against this machine's processor; raises what running there raises."""
    made = _probes()
    moved = measure_transfers(device.opencl())
    return Calibration(
        _rates(made, {name: _on_device(p, device) for name, p in made.items()}),
        measure_processor(),
        Link(*moved["upload"]),
        Link(*moved["download"]),
        key=key,
    )


def measure_processor() -> SideRates:
    """The rates of this machine's processor alone, with ONNX Runtime."""
    made = _probes()
    return _rates(made, {name: _on_cpu(p) for name, p in made.items()})


def _probes() -> dict[str, Probe]:
    return {"conv": _convolutions(), "matmul": _products(), "bytes": _sum(), "call": _chain()}


def _rates(probes: Mapping[str, Probe], seconds: Mapping[str, float | None]) -> SideRates:
    def per_second(name: str, amount: int) -> float:
        spent = seconds[name]
        return amount / spent if spent else _NEVER

    return SideRates(
        call_s=(seconds["call"] or 0.0) / _CHAIN or 1.0,
        conv_flops_s=per_second("conv", probes["conv"].flops),
        matmul_flops_s=per_second("matmul", probes["matmul"].flops),
        bytes_s=per_second("bytes", probes["bytes"].moved_bytes),
    )


def _on_device(probe: Probe, device: Device) -> float | None:
    """Seconds from the first kernel's start to the last one's end, transfers aside; best of a few.

    None where not all of it runs on the device.
    """
    handle = device.opencl()
    shapes = {name: array.shape for name, array in probe.feeds.items()}
    planned = plan_for(probe.graph, device.target(), shapes)
    weights, best = Weights(handle), None
    for _ in range(_REPEATS):
        trace = Trace(handle)
        executor = Executor(planned, handle, weights, trace)
        executor.run(probe.feeds)
        spans = trace.spans()
        executor.release()
        kernels = [span for span in spans if span.kind == "kernel"]
        if not kernels or any(span.kind == "host" for span in spans):
            break
        spent_s = (kernels[-1].end_ns - kernels[0].start_ns) * 1e-9
        best = spent_s if best is None else min(best, spent_s)
    weights.release()
    return best


def _on_cpu(probe: Probe) -> float:
    part = CpuPart(probe.graph)
    inputs = [probe.feeds[name] for name in probe.graph.inputs]
    part(inputs)
    spent = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        part(inputs)
        spent.append(time.perf_counter() - start)
    return min(spent)


def _convolutions() -> Probe:
    """Four convolutions as in the middle of a classifier: 64 channels, 3 x 3, 56 x 56 pixels."""
    weight = _random(64, 64, 3, 3) / 24
    nodes = [Node("Conv", (f"v{k}", "w"), (f"v{k + 1}",), {"pads": (1, 1, 1, 1)}) for k in range(4)]
    return _probe(nodes, {"v0": _random(1, 64, 56, 56)}, "v4", {"w": weight})


def _products() -> Probe:
    """Four products of 512 x 512 matrices."""
    weight = _random(512, 512) / 23
    nodes = [Node("MatMul", (f"v{k}", "w"), (f"v{k + 1}",)) for k in range(4)]
    return _probe(nodes, {"v0": _random(512, 512)}, "v4", {"w": weight})


def _sum() -> Probe:
    """16 MB plus 16 MB."""
    feeds = {"a": _random(1024, 4096), "b": _random(1024, 4096)}
    return _probe([Node("Add", ("a", "b"), ("c",))], feeds, "c", {})


def _chain() -> Probe:
    """Operations that nothing fuses, on sixteen numbers."""
    nodes = [Node("Softmax", (f"v{k}",), (f"v{k + 1}",), {"axis": -1}) for k in range(_CHAIN)]
    return _probe(nodes, {"v0": _random(1, 16)}, f"v{_CHAIN}", {})


def _probe(
    nodes: list[Node], feeds: dict[str, Array], output: str, weights: dict[str, Array]
) -> Probe:
    values = {n: Value(n, DType.FLOAT32, a.shape) for n, a in (feeds | weights).items()}
    graph = Graph("probe", tuple(feeds), (output,), nodes, values, weights, {"": 17})
    bound = bind(graph, {name: array.shape for name, array in feeds.items()})
    costs = node_costs(bound)
    moved = sum(cost.bytes_read + cost.bytes_written for cost in costs)
    return Probe(bound, feeds, sum(cost.flops for cost in costs), moved)


def _random(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
