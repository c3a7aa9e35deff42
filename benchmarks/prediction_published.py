"""Times that others published for Polaris cards and their kin, beside estimates for our kernels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import zoo

from rekindle._types import DType, Target
from rekindle.device.architectures import Architecture, Memory, architecture, target_from
from rekindle.engine.plan import Plan, plan
from rekindle.engine.prediction.estimate import estimate_plan
from rekindle.engine.prediction.rates import of_card
from rekindle.graph import onnx_io, passes
from rekindle.graph.cost import node_costs
from rekindle.graph.infer import bind
from rekindle.graph.ir import Graph, Node, Value
from rekindle.runtime.providers.opencl import plan_for

_DLPRIM = "dlprimitives, docs/benchmarks/benchmarks-rx560.md"
_NCNN = "ncnn, benchmark/README.md"
_LLAMA = "llama.cpp, pull request 13016"


@dataclass(frozen=True)
class Published:
    """One figure, and what we estimate for the same work on the same card."""

    card: str
    stack: str
    work: str
    batch: int
    published_s: float
    source: str
    estimated_s: float
    flops: int
    """Of a direct computation, as the model has them."""
    peak_flops_s: float

    @property
    def published_share(self) -> float:
        return self.flops / self.published_s / self.peak_flops_s


_RX560 = ("rx560", 16, 1275, None)
_PRO555X = ("rx560", 12, 907, 81.6e9)  # Polaris 21, 12 of its units: 1.39 TFLOP/s
_FURY_X = ("r9-fury-x", None, None, None)
_CNN = (
    ("RX 560", _RX560, "PyTorch, MIOpen", "resnet50", 16, 159.8e-3, _DLPRIM),
    ("RX 560", _RX560, "dlprimitives", "resnet50", 16, 204.1e-3, _DLPRIM),
    ("RX 560", _RX560, "PyTorch, MIOpen", "resnet18", 16, 39.5e-3, _DLPRIM),
    ("RX 560", _RX560, "dlprimitives", "resnet18", 16, 76.4e-3, _DLPRIM),
    ("RX 560", _RX560, "PyTorch, MIOpen", "mobilenet_v2", 16, 45.5e-3, _DLPRIM),
    ("RX 560", _RX560, "dlprimitives", "mobilenet_v2", 16, 88.6e-3, _DLPRIM),
    ("Radeon Pro 555X", _PRO555X, "ncnn, Vulkan", "resnet18", 1, 11.6e-3, _NCNN),
    ("Radeon Pro 555X", _PRO555X, "ncnn, Vulkan", "resnet50", 1, 28.3e-3, _NCNN),
    ("Radeon Pro 555X", _PRO555X, "ncnn, Vulkan", "mobilenet_v2", 1, 10.3e-3, _NCNN),
    ("Radeon Pro 555X", _PRO555X, "ncnn, Vulkan", "efficientnet_b0", 1, 17.6e-3, _NCNN),
    ("Radeon Pro 555X", _PRO555X, "ncnn, Vulkan", "squeezenet", 1, 6.9e-3, _NCNN),
    ("R9 Fury X", _FURY_X, "ncnn, Vulkan", "mobilenet_v2", 1, 6.9e-3, "ncnn, issue 2170"),
)
_ROWS, _TERMS, _COLUMNS = 512, 14336, 4096


def published(folder: Path) -> Iterator[Published]:
    """Each figure with the estimate; plans only."""
    for card, change, stack, model, batch, seconds, source in _CNN:
        row = _row(*change)
        graph = passes.run(onnx_io.load(zoo.export(model, folder)), passes.PORTABLE)
        shapes = {name: a.shape for name, a in zoo.feeds(model, batch).items()}
        made = plan_for(graph, _target(row), shapes)
        flops = sum(cost.flops for cost in node_costs(bind(graph, shapes)))
        yield _compare((card, stack, model, batch, seconds, source), made, row, flops)
    row = _row("rx470", 32, 900, None)  # 3.69 TFLOP/s
    flops = 2 * _ROWS * _TERMS * _COLUMNS
    for off, which in (((), "weights in scalar registers"), (("matmul_lanes",), "local memory")):
        made = _product(replace(_target(row), disabled_kernels=off))
        facts = ("RX 470 at 900 MHz", "llama.cpp, Vulkan", f"product, ours by {which}", 1,
                 flops / 2.40e12, _LLAMA)  # fmt: skip
        yield _compare(facts, made, row, flops)


def _row(key: str, units: int | None, mhz: int | None, bytes_s: float | None) -> Architecture:
    row = architecture(key)
    memory = row.memory if bytes_s is None else (Memory(2 << 30, bytes_s),)
    clock_hz = row.clock_hz if mhz is None else mhz * 1_000_000
    return replace(row, compute_units=units or row.compute_units, clock_hz=clock_hz, memory=memory)


def _target(row: Architecture) -> Target:
    return replace(target_from(row.key), compute_units=row.compute_units)


def _compare(
    facts: tuple[str, str, str, int, float, str], made: Plan, row: Architecture, flops: int
) -> Published:
    found = estimate_plan(made, of_card(row))
    card, stack, work, batch, seconds, source = facts
    return Published(
        card, stack, work, batch, seconds, source, found.kernels_s, flops, row.fp32_flops
    )


def _product(target: Target) -> Plan:
    """(512, 14336) x (14336, 4096), the second a constant: of a 7B model's prompt."""
    values = {
        "a": Value("a", DType.FLOAT32, (_ROWS, _TERMS)),
        "b": Value("b", DType.FLOAT32, (_TERMS, _COLUMNS)),
        "y": Value("y", DType.FLOAT32, (_ROWS, _COLUMNS)),
    }
    constants = {"b": np.zeros((_TERMS, _COLUMNS), np.float32)}
    node = Node("MatMul", ("a", "b"), ("y",))
    graph = Graph("product", ("a",), ("y",), [node], values, constants, {"": 17})
    return plan(graph, target)
