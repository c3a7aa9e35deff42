"""Float weights become integers and a DequantizeLinear: ONNX's own form, which others read too.

`int8_weights`: a scale for each output channel, the largest weight being 127, or the weights' own
step where they were integers before (models that were quantised once). `int4_weights`: a
scale for each 32 inputs of an output channel, chosen among those that clip the largest weight a
little for the smallest squared error; convolutions get eight bits, since at four the answers of
small ones are lost (measured: 2 to 8 dB on MobileNets). Depthwise filters,
first layers and other small weights stay floats: kernels widen them, so that no byte would be
saved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from rekindle.graph.ir import OWN_DOMAIN, Array, Graph, Node
from rekindle.graph.passes import register
from rekindle.graph.passes._rewrite import constant_input, is_default, prune
from rekindle.graph.passes._rounding import balanced

NAMES = ("int4_weights", "int8_weights")

GROUP = 32
"""Inputs that share a scale of four-bit weights."""
SMALL = 1024
"""Weights that are not worth it."""
_SINCE = 10
"""The first opset with DequantizeLinear; older graphs get ours."""
_SAMPLE, _LEVELS, _UNEVEN = 1 << 14, 256, 0.01
_CLIPPED = np.linspace(1.0, 0.7, 7)
Quantize = Callable[[Array, int, int], tuple[Array, Array, dict[str, int]]]
"""(weights, axis of outputs, axis of inputs) → integers, scales, attributes of the decoding."""


def is_worth(node: Node, weights: Array) -> bool:
    """Whether a convolution's or product's weights are many, and kernels keep them narrow."""
    if node.op_type != "Conv":
        return weights.size >= SMALL
    depthwise = weights.shape[1] == 1 and node.attr("group", 1) > 1
    return weights.size >= SMALL and not depthwise and weights.shape[1] > 4


def _int8(w: Array, outputs: int, inputs: int) -> tuple[Array, Array, dict[str, int]]:
    others = tuple(a for a in range(w.ndim) if a != outputs)
    scale = np.abs(w).max(axis=others) / np.float32(127)
    step = own_step(w)
    if step is not None:  # exact wherever the channel's integers have eight bits
        scale = np.where(scale <= step, step, scale)
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    sizes = [1] * w.ndim
    sizes[outputs] = -1
    q = _integers(w, scale.reshape(sizes), outputs, 127)
    return q, scale, {"axis": outputs}


def own_step(w: Array) -> np.float32 | None:
    """What all weights are multiples of, integers of nine bits at most; None for ordinary ones."""
    few = np.unique(np.abs(w.reshape(-1)[:_SAMPLE]))
    if len(few) > _LEVELS or len(few) < 2:
        return None
    values = np.unique(np.abs(w)).astype(np.float64)
    gaps = np.diff(np.append(0.0, values[values > 0]))
    step = gaps[gaps > values[-1] / (4 * _LEVELS)].min(initial=np.inf)
    multiples = values / step
    if not np.isfinite(step) or np.abs(multiples - np.rint(multiples)).max() > _UNEVEN:
        return None
    return np.float32(step)


def _int4(w: Array, outputs: int, inputs: int) -> tuple[Array, Array, dict[str, int]]:
    moved = np.moveaxis(w, inputs, -1)
    count = -(-moved.shape[-1] // GROUP)
    padded = np.zeros((*moved.shape[:-1], count * GROUP), np.float32)
    padded[..., : moved.shape[-1]] = moved
    groups = padded.reshape(*moved.shape[:-1], count, GROUP)
    scale = _best_scales(groups)
    found = np.ascontiguousarray(np.moveaxis(scale[..., 0], -1, inputs))
    spread = found.repeat(GROUP, axis=inputs).take(range(w.shape[inputs]), axis=inputs)
    return _integers(w, spread, outputs, 7), found, {"axis": inputs, "block_size": GROUP}


def _integers(w: Array, scale: Array, outputs: int, most: int) -> Array:
    """The weights in units of `scale` as integers of -most-1 or -most to most."""
    least = -most if most > 7 else -most - 1
    exact = w / scale
    near = np.rint(exact).clip(least, most)
    other = (near + np.sign(exact - near)).clip(least, most)

    def rows(values: Array) -> Array:
        spread = np.broadcast_to(values, w.shape)
        return np.moveaxis(spread, outputs, 0).reshape(w.shape[outputs], -1)

    flip = balanced(rows(w), rows(near * scale), rows(other * scale))
    moved = np.moveaxis(near, outputs, 0)
    return np.where(np.moveaxis(flip.reshape(moved.shape), 0, outputs), other, near).astype(np.int8)


def _best_scales(groups: Array) -> Array:
    """The scale of least squared error among a few, (..., 1)."""
    largest = np.abs(groups).max(axis=-1, keepdims=True)
    largest = np.where(largest > 0, largest, 1).astype(np.float32)
    best, least = largest / 7, np.full(largest.shape, np.inf, np.float32)
    for part in _CLIPPED:
        scale = largest * np.float32(part / 7)
        error = np.square(np.rint(groups / scale).clip(-8, 7) * scale - groups)
        total = error.sum(axis=-1, keepdims=True)
        best, least = np.where(total < least, scale, best), np.minimum(total, least)
    return np.asarray(best, np.float32)


def _run(graph: Graph, quantize: Quantize) -> Graph:
    result = graph.copy()
    result.nodes = []
    made: dict[tuple[str, int], str] = {}
    for node in graph.nodes:
        w = constant_input(graph, node, 1) if is_default(node, "Conv", "Gemm", "MatMul") else None
        if w is None or w.dtype != np.float32 or w.ndim < 2 or not is_worth(node, w):
            result.nodes.append(node)
            continue
        outputs = output_axis(node, w)
        inputs = 1 if node.op_type == "Conv" else 2 * w.ndim - 3 - outputs
        key = node.inputs[1], outputs
        if key not in made:
            eight = node.op_type == "Conv" or w.shape[inputs] < GROUP
            parts = (_int8 if eight else quantize)(w, outputs, inputs)
            maker = _maker(result, node.inputs[1], parts)
            made[key] = maker.outputs[0]
            result.values[made[key]] = replace(result.values[node.inputs[1]], name=made[key])
            result.nodes.append(maker)
        rest = node.inputs[2:]
        result.nodes.append(replace(node, inputs=(node.inputs[0], made[key], *rest)))
    return prune(result)


def output_axis(node: Node, w: Array) -> int:
    """The axis of the output channels of a convolution's or product's weights."""
    if node.op_type == "Conv":
        return 0
    return w.ndim - 2 if node.attr("transB", 0) or node.attr("transpose_b") else w.ndim - 1


def _maker(graph: Graph, name: str, parts: tuple[Array, Array, dict[str, int]]) -> Node:
    q, scale, attrs = parts
    names = (graph.add_initializer(f"{name}.q", q), graph.add_initializer(f"{name}.scale", scale))
    domain = "" if graph.opset("") >= _SINCE else OWN_DOMAIN
    return Node("DequantizeLinear", names, (graph.fresh(f"{name}.decoded"),), attrs, domain)


register("int4_weights", lambda graph, _: _run(graph, _int4))
register("int8_weights", lambda graph, _: _run(graph, _int8))
