"""Shape arithmetic shared by operators; dimensions may be symbolic."""

from __future__ import annotations

from collections.abc import Sequence

from rekindle._errors import ModelError
from rekindle._types import Dim, Shape
from rekindle.graph.ir import Node
from rekindle.graph.ops import Operand, TensorType


def same_type(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    """The output has the first input's dtype and shape."""
    x = required(node, inputs, 0)
    return (TensorType(x.dtype, x.shape),)


def required(node: Node, inputs: Sequence[Operand | None], index: int) -> Operand:
    """A required input; ModelError where the node lacks it."""
    operand = inputs[index] if index < len(inputs) else None
    if operand is None:
        raise ModelError(f"node {node} lacks its input {index}")
    return operand


def broadcast(node: Node, *shapes: Shape | None) -> Shape | None:
    """NumPy broadcasting; a symbolic dimension against 1 stays, against a number is the number.

    Two different symbolic names give the first (they can only be equal or 1).
    """
    known = [s for s in shapes if s is not None]
    if len(known) < len(shapes):
        return None
    rank = max(map(len, known), default=0)
    padded: list[Shape] = [(1,) * (rank - len(s)) + s for s in known]
    return tuple(_broadcast_dim(node, dims) for dims in zip(*padded, strict=True))


def _broadcast_dim(node: Node, dims: Sequence[Dim]) -> Dim:
    numbers = {d for d in dims if isinstance(d, int) and d != 1}
    if len(numbers) > 1:
        raise ModelError(f"node {node}: dimensions {tuple(dims)} do not broadcast")
    if numbers:
        return numbers.pop()
    return next((d for d in dims if isinstance(d, str)), 1)


def normalize_axis(node: Node, axis: int, rank: int) -> int:
    """A non-negative axis; ModelError out of range."""
    if not -rank <= axis < max(rank, 1):
        raise ModelError(f"node {node}: axis {axis} is out of range for rank {rank}")
    return axis % rank if rank else 0


def window_dim(size: Dim, kernel: int, stride: int, pads: int, dilation: int, ceil: bool) -> Dim:
    """Positions of a sliding window: floor or ceil of (size + pads - reach) / stride, plus 1.

    With `ceil`, a window that would start in the end padding is dropped (ONNX's rule).
    """
    if isinstance(size, str):
        return size if stride == 1 and pads == dilation * (kernel - 1) else f"window({size})"
    span = size + pads - dilation * (kernel - 1) - 1
    return (-(-span // stride) if ceil else span // stride) + 1
