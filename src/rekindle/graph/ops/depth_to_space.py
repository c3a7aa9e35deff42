"""DepthToSpace and SpaceToDepth: channels become pixels and back (Shi et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from rekindle._errors import ModelError
from rekindle._types import Dim, Shape
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer, text
from rekindle.graph.ops._copies import Walk, copy, row_major
from rekindle.graph.ops._shapes import required

NAMES = ("DepthToSpace", "SpaceToDepth")


def _block(node: Node) -> int:
    block = integer(node, "blocksize")
    if block < 1:
        raise ModelError(f"node {node}: blocksize {block} must be positive")
    return block


def _image_shape(node: Node, x: Operand) -> Shape | None:
    if x.shape is not None and len(x.shape) != 4:
        raise ModelError(f"node {node}: its input has shape {list(x.shape)}, expected (N, C, H, W)")
    return x.shape


def _divided(node: Node, dim: Dim, by: int) -> Dim:
    if isinstance(dim, str):
        return dim if by == 1 else f"({dim}/{by})"
    if dim % by:
        raise ModelError(f"node {node}: {dim} does not divide into blocks of {by}")
    return dim // by


def _multiplied(dim: Dim, by: int) -> Dim:
    if isinstance(dim, int):
        return dim * by
    return dim if by == 1 else f"({dim}*{by})"


def _to_space_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, block = required(node, inputs, 0), _block(node)
    shape = _image_shape(node, x)
    if shape is None:
        return (TensorType(x.dtype, None),)
    batch, channels, height, width = shape
    depth = _divided(node, channels, block * block)
    spatial = _multiplied(height, block), _multiplied(width, block)
    return (TensorType(x.dtype, (batch, depth, *spatial)),)


def _to_depth_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, block = required(node, inputs, 0), _block(node)
    shape = _image_shape(node, x)
    if shape is None:
        return (TensorType(x.dtype, None),)
    batch, channels, height, width = shape
    spatial = _divided(node, height, block), _divided(node, width, block)
    return (TensorType(x.dtype, (batch, _multiplied(channels, block * block), *spatial)),)


def _split_depth(node: Node, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How to see the deep tensor with its blocks apart, and the order that makes pixels of them.

    The order is (N, depth, H, block row, W, block column). DCR: depth varies fastest among the
    channels; CRD: slowest.
    """
    batch, channels, height, width = shape
    block = _block(node)
    depth = channels // (block * block)
    if text(node, "mode", "DCR", choices=("DCR", "CRD")) == "DCR":
        return (batch, block, block, depth, height, width), (0, 3, 4, 1, 5, 2)
    return (batch, depth, block, block, height, width), (0, 1, 4, 2, 5, 3)


def _to_space(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = required(node, inputs, 0)
    apart, order = _split_depth(node, x.shape)
    (batch, _, height, width), block = x.shape, _block(node)
    pixels = x.reshape(apart).transpose(order)
    depth = x.shape[1] // (block * block)
    return (pixels.reshape(batch, depth, height * block, width * block),)


def _deep_shape(node: Node, shape: Sequence[int]) -> tuple[int, int, int, int]:
    batch, channels, height, width = shape
    block = _block(node)
    return batch, channels * block * block, height // block, width // block


def _to_depth(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """The exact inverse of DepthToSpace."""
    x = required(node, inputs, 0)
    deep = _deep_shape(node, x.shape)
    apart, order = _split_depth(node, deep)
    pixels = x.reshape([apart[axis] for axis in order])
    back = sorted(range(6), key=order.__getitem__)
    return (pixels.transpose(back).reshape(deep),)


def _to_space_lower(lowering: Lowering) -> None:
    x = lowering.input(0)
    apart, order = _split_depth(lowering.node, x.static_shape)
    steps, shape = row_major(apart), [apart[axis] for axis in order]
    source = Walk(tuple(steps[axis] for axis in order))
    copy(lowering, x, lowering.output, shape, source, Walk(row_major(shape)))


def _to_depth_lower(lowering: Lowering) -> None:
    x = lowering.input(0)
    apart, order = _split_depth(lowering.node, lowering.output.static_shape)
    steps, shape = row_major(apart), [apart[axis] for axis in order]
    target = Walk(tuple(steps[axis] for axis in order))
    copy(lowering, x, lowering.output, shape, Walk(row_major(shape)), target)


register(
    "DepthToSpace",
    Operator(since=1, infer=_to_space_infer, reference=_to_space, lower=_to_space_lower),
)
register(
    "SpaceToDepth",
    Operator(since=1, infer=_to_depth_infer, reference=_to_depth, lower=_to_depth_lower),
)
