"""Shape arithmetic shared by operators; dimensions may be symbolic."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from rekindle._errors import ModelError
from rekindle._types import Dim, DType, Shape
from rekindle.graph.ir import Array, Node
from rekindle.graph.ops import Operand, TensorType

T = TypeVar("T")

_MAX_RANK = 64
"""NumPy's own limit."""

_MAX_LIST = 4096
"""No list of axes, sizes or bounds is longer; a larger tensor there is a malformed model."""


def same_type(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    """The output has the first input's dtype and shape."""
    x = required(node, inputs, 0)
    return (TensorType(x.dtype, x.shape),)


def required(node: Node, inputs: Sequence[T | None], index: int) -> T:
    """A required input (operand or array); ModelError where the node lacks it."""
    given = optional(inputs, index)
    if given is None:
        raise ModelError(f"node {node} lacks its input {index}")
    return given


def optional(inputs: Sequence[T | None], index: int) -> T | None:
    """An input that may be absent: by an empty name, or by a shorter list."""
    return inputs[index] if index < len(inputs) else None


def known_rank(node: Node, operand: Operand, *, at_least: int = 0) -> int | None:
    """The rank, None where unknown; ModelError below `at_least`."""
    if operand.shape is None:
        return None
    if len(operand.shape) < at_least:
        raise ModelError(
            f"node {node}: an input of shape {list(operand.shape)} has rank {len(operand.shape)}, "
            f"expected at least {at_least}"
        )
    return len(operand.shape)


def same_dtype(node: Node, operands: Sequence[Operand | None]) -> DType:
    """The dtype all operands given share; ModelError where they differ."""
    found = {o.dtype for o in operands if o is not None}
    if len(found) != 1:
        names = ", ".join(sorted(map(str, found))) or "none"
        raise ModelError(f"node {node}: inputs must have one dtype, they have {names}")
    return found.pop()


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


def normalize_axes(node: Node, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Sorted non-negative axes; ModelError out of range or repeated."""
    found = tuple(sorted(normalize_axis(node, int(a), rank) for a in axes))
    if len(set(found)) < len(found):
        raise ModelError(f"node {node}: axes {list(axes)} name one axis twice")
    return found


def unknown_dim(node: Node, axis: int, output: int = 0) -> str:
    """A name for a dimension that only the data tells."""
    return f"{node.outputs[output]}.{axis}"


def unknown_shape(node: Node, rank: int, output: int = 0) -> Shape:
    """A shape of which only the rank is known; ModelError for a rank that NumPy cannot have."""
    if rank > _MAX_RANK:
        raise ModelError(f"node {node}: a tensor of rank {rank}; at most {_MAX_RANK} is supported")
    return tuple(unknown_dim(node, axis, output) for axis in range(rank))


def merge_dims(node: Node, a: Dim, b: Dim) -> Dim:
    """What two dimensions that must be equal are; a number wins over a name."""
    if isinstance(a, int) and isinstance(b, int) and a != b:
        raise ModelError(f"node {node}: dimensions {a} and {b} must be equal")
    return a if isinstance(a, int) else b


def product(dims: Sequence[Dim]) -> Dim:
    """The number of elements; a name such as `N*196` where dimensions are symbolic."""
    number = math.prod(d for d in dims if isinstance(d, int))
    names = sorted(d for d in dims if isinstance(d, str))
    if not names or not number:
        return number
    return "*".join([*names, str(number)] if number != 1 else names)


def quotient(dims: Sequence[Dim], divisors: Sequence[Dim]) -> Dim | None:
    """product(dims) / product(divisors); None where that is not one number or name."""
    names = Counter(d for d in dims if isinstance(d, str))
    others = Counter(d for d in divisors if isinstance(d, str))
    top = math.prod(d for d in dims if isinstance(d, int))
    bottom = math.prod(d for d in divisors if isinstance(d, int))
    if others - names or not bottom or top % bottom:
        return None
    return product([*(names - others).elements(), top // bottom])


def whole_numbers(node: Node, constant: Array | None) -> tuple[int, ...] | None:
    """A constant 1-D (or 0-D) integer input as plain numbers; None where it is not known."""
    if constant is None:
        return None
    if constant.ndim > 1 or constant.dtype.kind not in "iu" or constant.size > _MAX_LIST:
        raise ModelError(
            f"node {node}: expected a list of whole numbers, got {constant.dtype} of shape "
            f"{list(constant.shape)}"
        )
    return tuple(int(v) for v in constant.reshape(-1))


def length(operand: Operand) -> int | None:
    """Number of elements of a 1-D operand, None where unknown."""
    if operand.shape is None or len(operand.shape) != 1:
        return None
    (count,) = operand.shape
    return count if isinstance(count, int) else None


def numel(shape: Shape | None) -> int:
    """Number of elements of a static shape."""
    return math.prod(d for d in shape or () if isinstance(d, int))
