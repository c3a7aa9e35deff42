"""What Conv and rekindle::Conv share: types, the NumPy reference, the logical call."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Shape
from rekindle.graph.expr import Expr
from rekindle.graph.ir import Array, Node, Value
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, TensorType
from rekindle.graph.ops._attributes import flag, integer, integers
from rekindle.graph.ops._elementwise import wide
from rekindle.graph.ops._shapes import merge_dims, optional, required, same_dtype, unknown_dim
from rekindle.graph.ops._windows import Window, window, windows_of


def convolution_type(node: Node, inputs: Sequence[Operand | None]) -> TensorType:
    """Of x (N, C, *S), w (M, C/group, *K), bias (M,): (N, M, *O); ModelError otherwise."""
    x, w, bias = required(node, inputs, 0), required(node, inputs, 1), optional(inputs, 2)
    dtype = same_dtype(node, (x, w, bias))
    if x.shape is None or w.shape is None:
        return TensorType(dtype, None)
    if len(x.shape) != len(w.shape) or len(x.shape) < 3:
        raise ModelError(
            f"node {node}: x has shape {list(x.shape)} and the weights {list(w.shape)}, expected "
            "(N, C, sizes...) and (M, C/group, kernel...)"
        )
    group, (outputs, depth) = integer(node, "group", 1), w.shape[:2]
    if group < 1 or (isinstance(outputs, int) and outputs % group):
        raise ModelError(f"node {node}: {outputs} filters do not split into {group} groups")
    if isinstance(depth, int):
        merge_dims(node, x.shape[1], depth * group)
    if bias is not None and bias.shape is not None:
        if len(bias.shape) != 1:
            raise ModelError(f"node {node}: its bias has shape {list(bias.shape)}, expected (M,)")
        outputs = merge_dims(node, outputs, bias.shape[0])
    return TensorType(dtype, (x.shape[0], outputs, *_spatial(node, x.shape, w.shape)))


def _spatial(node: Node, x: Shape, w: Shape) -> Shape:
    kernel = tuple(k for k in w[2:] if isinstance(k, int))
    if len(kernel) < len(w) - 2:
        return tuple(unknown_dim(node, i + 2) for i in range(len(w) - 2))
    return frame_of(node, kernel).output_dims(node, x[2:])


def frame_of(node: Node, kernel: tuple[int, ...]) -> Window:
    """The window of a convolution whose weights have `kernel` as spatial sizes."""
    declared = integers(node, "kernel_shape")
    if declared and declared != kernel:
        raise ModelError(
            f"node {node}: kernel_shape is {list(declared)}, its weights have {list(kernel)}"
        )
    return window(node, kernel)


def convolve(node: Node, inputs: Sequence[Array | None]) -> Array:
    """The convolution with bias, in float64: one matrix product per image and group."""
    x, w, bias = required(node, inputs, 0), required(node, inputs, 1), optional(inputs, 2)
    group, (filters, depth, *kernel) = integer(node, "group", 1), w.shape
    frame = frame_of(node, tuple(kernel))
    counts = [int(d) for d in frame.output_dims(node, x.shape[2:])]
    views = windows_of(x, frame, counts, 0)
    weights = wide(w).reshape(group, filters // group, depth * math.prod(kernel))
    rank = len(kernel)
    taps_first = (0, *range(1 + rank, 1 + 2 * rank), *range(1, 1 + rank))
    y = np.empty((x.shape[0], filters, *counts))
    for image, out in zip(views, y, strict=True):
        columns = wide(image.transpose(taps_first).reshape(group, weights.shape[2], -1))
        out[...] = (weights @ columns).reshape(filters, *counts)
    if bias is not None:
        y += wide(bias).reshape(-1, *(1,) * rank)
    return y


def convolution_flops(w: Operand, output: TensorType) -> int:
    """Two for each multiply-add; the bias is where the sum starts and costs nothing."""
    taps = math.prod(d for d in (w.shape or ())[1:] if isinstance(d, int))
    return 2 * taps * math.prod(d for d in output.shape or () if isinstance(d, int))


def call_convolution(
    lowering: Lowering, operands: Sequence[Value | None], epilogue: Expr | None
) -> None:
    """The logical `conv` of a node with explicit padding, and operands of its epilogue."""
    node, x, w = lowering.node, lowering.input(0), lowering.input(1)
    if not x.dtype.is_float:
        raise NotLowered(f"a convolution of {x.dtype}")
    frame = frame_of(node, w.static_shape[2:])
    bias = lowering.input(2) if lowering.has_input(2) else None
    lowering.call(
        "conv",
        (x, w, bias, *operands),
        lowering.output,
        strides=frame.strides,
        pads=frame.padding(x.static_shape[2:]),
        dilations=frame.dilations,
        group=integer(node, "group", 1),
        epilogue=epilogue,
        exact=flag(node, "exact"),
        decode=node.attr("decode"),
    )
