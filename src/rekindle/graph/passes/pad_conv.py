"""Zero padding before a convolution or pool becomes the padding of that node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rekindle._types import Target
from rekindle.graph.ir import Graph, Node
from rekindle.graph.order import Uses
from rekindle.graph.passes import register
from rekindle.graph.passes._rewrite import (
    constant_input,
    has_input,
    is_default,
    prune,
    scalar,
)


def run(graph: Graph, target: Target | None) -> Graph:
    uses = Uses.of(graph)
    result = graph.copy()
    result.nodes = []
    for node in graph.nodes:
        pad = uses.producer.get(node.inputs[0]) if node.inputs else None
        merged = _merge(graph, uses, pad, node) if pad is not None else None
        result.nodes.append(merged or node)
    # A Pad that others read as well stays for them; without readers it is dead.
    needed = {n for node in result.nodes for n in node.inputs} | uses.outputs
    result.nodes = [
        n for n in result.nodes if not is_default(n, "Pad") or not needed.isdisjoint(n.outputs)
    ]
    return prune(result)


def _merge(graph: Graph, uses: Uses, pad: Node, node: Node) -> Node | None:
    """`node` reading the unpadded image and padding it itself; None where that is not the same."""
    if not is_default(pad, "Pad") or node.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    added = _spatial_zeros(graph, pad)
    if added is None:
        return None
    own = node.attr("pads") or (0,) * len(added)
    attrs: dict[str, Any] = dict(node.attrs)
    attrs["pads"] = tuple(a + b for a, b in zip(own, added, strict=True))
    attrs.pop("auto_pad", None)
    if is_default(node, "AveragePool"):
        # The zeros counted as pixels, so they must go on counting; more padding could not.
        if any(own) or not _reaches(node, added):
            return None
        attrs["count_include_pad"] = 1
    elif is_default(node, "MaxPool"):
        # A maximum over zeros and pixels is one over pixels if none of these is negative.
        if not _reaches(node, attrs["pads"]) or not _non_negative(graph, uses, pad.inputs[0]):
            return None
    elif not is_default(node, "Conv"):
        return None
    return replace(node, inputs=(pad.inputs[0], *node.inputs[1:]), attrs=attrs)


def _spatial_zeros(graph: Graph, pad: Node) -> tuple[int, ...] | None:
    """The padding per spatial axis, begins then ends; None unless it is constant zeros there."""
    if pad.attr("mode", "constant") != "constant":
        return None
    value: float | int | bool | None = pad.attr("value", 0.0)
    if has_input(pad, 2):
        value = scalar(graph.constant(pad.inputs[2]))
    shape = graph.values[pad.inputs[0]].shape
    if value != 0 or shape is None or len(shape) < 3:
        return None
    rank = len(shape)
    full = _full_pads(graph, pad, rank)
    if full is None or min(full) < 0 or any(full[:2]) or any(full[rank : rank + 2]):
        return None
    return (*full[2:rank], *full[rank + 2 :])


def _full_pads(graph: Graph, pad: Node, rank: int) -> Sequence[int] | None:
    """The padding of every axis, begins then ends; from an attribute (opset < 11) or inputs."""
    pads = pad.attr("pads")
    if pads is None:
        constant = constant_input(graph, pad, 1)
        if constant is None:
            return None
        pads = [int(p) for p in constant.flat]
    axes: Sequence[int] = range(rank)
    if has_input(pad, 3):
        constant = constant_input(graph, pad, 3)
        if constant is None:
            return None
        axes = [int(a) % rank for a in constant.flat]
    full = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        full[axis] = pads[i]
        full[rank + axis] = pads[len(axes) + i]
    return full


def _reaches(pool: Node, pads: Sequence[int]) -> bool:
    """Whether every window of a pool holds a pixel: less padding than window, no rounding up."""
    kernel = pool.attr("kernel_shape")
    dilated = any(d != 1 for d in pool.attr("dilations") or ())
    if pool.attr("ceil_mode", 0) or dilated:
        return False
    return all(p < k for p, k in zip(pads, (*kernel, *kernel), strict=True))


def _non_negative(graph: Graph, uses: Uses, name: str) -> bool:
    maker = uses.producer.get(name)
    if maker is None or maker.domain:
        return False
    if maker.op_type == "Clip":
        limits = [maker.attr("min"), maker.attr("max", 0.0)]  # no maximum: nothing to check
        for i in (1, 2):
            if has_input(maker, i):
                limits[i - 1] = scalar(graph.constant(maker.inputs[i]))
        return all(limit is not None and limit >= 0 for limit in limits)
    return maker.op_type in ("Relu", "Sigmoid", "Softplus", "HardSigmoid")


register("pad_conv", run)
