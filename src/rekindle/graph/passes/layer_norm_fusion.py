"""Layer normalization as exporters wrote it before opset 17 becomes one node.

    mean = ReduceMean(x);  d = x - mean;  d / Sqrt(ReduceMean(d^2) + epsilon) [* scale] [+ bias]

over the last axes. Ba et al. 2016, "Layer Normalization". One kernel then reads x once, where these
nodes read and write it five times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rekindle._types import DType, Target
from rekindle.graph.ir import Graph, Node
from rekindle.graph.order import Uses
from rekindle.graph.passes import register
from rekindle.graph.passes._rewrite import is_default, reduction_axes, scalar
from rekindle.graph.passes.dead_nodes import run as dead_nodes


@dataclass(frozen=True)
class _Standardized:
    """What a Div computes: x of zero mean and unit variance over its axes from `first` on."""

    x: str
    first: int
    epsilon: float


def run(graph: Graph, target: Target | None) -> Graph:
    uses = Uses.of(graph)
    result = graph.copy()
    fused: dict[str, Node] = {}
    for node in graph.nodes:
        found = _standardized(graph, uses, node)
        if found is not None:
            made = _with_affine(result, uses, node, found)
            fused[made.outputs[0]] = made
    if not fused:
        return graph
    result.nodes = [fused.get(n.outputs[0], n) if n.outputs else n for n in graph.nodes]
    return dead_nodes(result, target)  # what led there: later passes count readers


def _standardized(graph: Graph, uses: Uses, node: Node) -> _Standardized | None:
    if not is_default(node, "Div"):
        return None
    root = _made_by(uses, node.inputs[1], "Sqrt")
    total = _made_by(uses, root.inputs[0], "Add") if root else None
    if total is None:
        return None
    for name, other in (total.inputs, total.inputs[::-1]):
        epsilon, variance = scalar(graph.constant(other)), _made_by(uses, name, "ReduceMean")
        if epsilon is None or variance is None:
            continue
        centred = _squared(graph, uses, variance.inputs[0])
        if centred != node.inputs[0]:
            continue
        difference = _made_by(uses, centred, "Sub")
        mean = _made_by(uses, difference.inputs[1], "ReduceMean") if difference else None
        if mean is None or difference is None or mean.inputs[0] != difference.inputs[0]:
            continue
        first = _first_axis(graph, mean)
        if first is not None and first == _first_axis(graph, variance):
            return _Standardized(mean.inputs[0], first, float(epsilon))
    return None


def _made_by(uses: Uses, name: str, op_type: str) -> Node | None:
    node = uses.producer.get(name)
    return node if node is not None and is_default(node, op_type) else None


def _squared(graph: Graph, uses: Uses, name: str) -> str | None:
    """The value whose square `name` is."""
    power = _made_by(uses, name, "Pow")
    if power is not None and scalar(graph.constant(power.inputs[1])) == 2:
        return power.inputs[0]
    product = _made_by(uses, name, "Mul")
    same = product is not None and product.inputs[0] == product.inputs[1]
    return product.inputs[0] if product is not None and same else None


def _first_axis(graph: Graph, mean: Node) -> int | None:
    """The first axis of a mean over all axes from there on; None for any other mean."""
    value, axes = graph.values[mean.inputs[0]], reduction_axes(graph, mean)
    if value.dtype is not DType.FLOAT32 or not value.is_static or not axes:
        return None
    rank = len(value.static_shape)
    found = sorted(a % rank for a in axes)
    last = found == list(range(rank - len(found), rank)) and mean.attr("keepdims", 1)
    return found[0] if last else None


def _with_affine(graph: Graph, uses: Uses, node: Node, found: _Standardized) -> Node:
    """The node, with a product by a scale and a sum with a bias that follow it."""
    row = graph.values[found.x].static_shape[found.first :]
    output, affine = node.outputs[0], ["", ""]
    for place, op_type in enumerate(("Mul", "Add")):
        reader = uses.sole_reader(output)
        if reader is None or not is_default(reader, op_type) or len(set(reader.inputs)) < 2:
            continue
        (other,) = (name for name in reader.inputs if name != output)
        if graph.values[other].shape == row and graph.values[other].dtype is DType.FLOAT32:
            affine[place], output = other, reader.outputs[0]
    scale, bias = affine
    scale = scale or graph.add_initializer(f"{output}.scale", np.ones(row, np.float32))
    inputs = (found.x, scale, bias) if bias else (found.x, scale)
    attrs = {"axis": found.first, "epsilon": found.epsilon}
    return Node("LayerNormalization", inputs, (output,), attrs, name=node.name)


register("layer_norm_fusion", run)
