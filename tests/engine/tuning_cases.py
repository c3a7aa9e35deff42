"""Calls that can be tuned, taken from plans of small networks: specs see what they see in life."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from graphs import POLARIS, classifier, model
from kernel_harness import CPU8, CPU16
from onnx import helper

from rekindle._types import Target
from rekindle.engine import kernels
from rekindle.engine.choices import Setting, settings
from rekindle.engine.kernels import Context
from rekindle.engine.plan import plan
from rekindle.graph import onnx_io, passes
from rekindle.graph.infer import bind
from rekindle.graph.ir import Graph
from rekindle.graph.lowering import LogicalCall

TARGETS = (CPU8, CPU16, POLARIS)


class Listener:
    """Records that know nothing, and remember what they were asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[LogicalCall, Context]] = []

    def best(self, call: LogicalCall, context: Context) -> Setting | None:
        self.asked.append((call, context))
        return None


def products() -> Graph:
    """A product with a constant, one of two inputs in batches, and attention's shape of it."""
    rng = np.random.default_rng(3)
    weights = {"w": rng.standard_normal((130, 77)).astype(np.float32)}
    nodes = [
        helper.make_node("MatMul", ["a", "w"], ["y"], name="constant"),
        helper.make_node("MatMul", ["b", "c"], ["z"], name="computed"),
        helper.make_node("MatMul", ["v", "w"], ["u"], name="row"),
    ]
    inputs = {"a": [29, 130], "b": [3, 13, 64], "c": [3, 64, 48], "v": [1, 130]}
    made = model(nodes, inputs, {"y": [29, 77], "z": [3, 13, 48], "u": [1, 77]}, weights)
    return onnx_io.load_bytes(made.SerializeToString())


def planned_calls(graph: Graph, target: Target) -> list[tuple[LogicalCall, Context]]:
    """The calls of a network that can be tuned."""
    specs = graph.input_specs()
    shapes = {s.name: tuple(2 if isinstance(d, str) else d for d in s.shape) for s in specs}
    bound = bind(passes.run(graph, passes.PORTABLE), shapes)
    listener = Listener()
    plan(passes.run(bound, passes.DEVICE, target), target, records=listener)
    return [(call, context) for call, context in listener.asked if settings(call, context)]


def every_call() -> Iterator[tuple[LogicalCall, Context]]:
    graphs = (onnx_io.load_bytes(classifier(channels=32).SerializeToString()), products())
    joined = {
        name for name in kernels.REGISTRY.names() if kernels.REGISTRY.get(name).call == "chain"
    }
    for target in TARGETS:
        for graph in graphs:
            yield from planned_calls(graph, target)
        apart = replace(target, disabled_kernels=tuple(sorted(joined)))
        for call, context in planned_calls(graphs[0], apart):
            if call.params.get("group", 1) > 1:
                yield call, context
