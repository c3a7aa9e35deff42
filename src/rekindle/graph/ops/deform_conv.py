"""DeformConv: convolution whose taps are moved by the data. Dai et al. 2017; on the host."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from rekindle._errors import ModelError
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer
from rekindle.graph.ops._convolution import convolution_flops, convolution_type, frame_of
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._sampling import Sampling, sample
from rekindle.graph.ops._shapes import optional, required

_HOW = Sampling("linear", "zeros", corners=True)


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    plain = [required(node, inputs, 0), required(node, inputs, 1), optional(inputs, 3)]
    return (convolution_type(node, plain),)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Offsets (N, groups * taps * rank, *O) and masks (N, groups * taps, *O)."""
    given, w = required(node, inputs, 0), wide(required(node, inputs, 1))
    moved, bias, mask = required(node, inputs, 2), optional(inputs, 3), optional(inputs, 4)
    kernel, group = w.shape[2:], integer(node, "group", 1)
    groups, rank, frame = integer(node, "offset_group", 1), len(w.shape) - 2, frame_of(node, kernel)
    n, channels, out = given.shape[0], given.shape[1], moved.shape[2:]
    if groups < 1 or channels % groups:
        raise ModelError(f"node {node}: {channels} channels do not split into {groups} groups")
    taps = list(itertools.product(*map(range, kernel)))
    offsets = wide(moved).reshape(n, groups, len(taps), rank, *out)
    masks = np.ones((n, groups, len(taps), *out)) if mask is None else wide(mask)
    masks = masks.reshape(n, groups, len(taps), *out)
    begins = frame.padding(given.shape[2:])[:rank]
    start = np.moveaxis(np.indices(out), 0, -1) * np.array(frame.strides) - np.array(begins)
    x = given.reshape(n, groups, channels // groups, *given.shape[2:])
    y = np.zeros((n, w.shape[0], *out))
    weights = w.reshape(group, w.shape[0] // group, *w.shape[1:])
    for number, tap in enumerate(taps):
        base = start + np.array(tap) * np.array(frame.dilations)
        parts = []
        for g in range(groups):
            places = base + np.moveaxis(offsets[:, g, number], 1, -1)
            parts.append(sample(x[:, g], places, _HOW) * masks[:, g, number][:, None])
        seen = np.concatenate(parts, axis=1).reshape(n, group, channels // group, *out)
        at: Any = (slice(None), slice(None), slice(None), *tap)
        y += np.einsum("ngc...,gfc->ngf...", seen, weights[at]).reshape(y.shape)
    if bias is not None:
        y += wide(bias).reshape(-1, *(1,) * rank)
    return (rounded(y, dtype_of(given)),)


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    return convolution_flops(required(node, inputs, 1), outputs[0])


register("DeformConv", Operator(since=19, infer=_infer, reference=_reference, flops=_flops))
