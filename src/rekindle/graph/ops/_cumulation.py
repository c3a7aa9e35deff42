"""Running sums and products: the logical call that CumSum and CumProd share."""

from __future__ import annotations

from collections.abc import Sequence

from rekindle.graph.ir import Node
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, TensorType
from rekindle.graph.ops._attributes import flag
from rekindle.graph.ops._shapes import normalize_axis, numel


def flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    """One operation an element."""
    return numel(outputs[0].shape)


def cumulate(lowering: Lowering, kind: str) -> None:
    """The logical `cumulate` of input 0 along the axis that input 1 holds."""
    node, x, given = lowering.node, lowering.input(0), lowering.constant(1)
    if given is None:
        raise NotLowered("its axis is computed at run time")
    axis = normalize_axis(node, int(given.reshape(-1)[0]), len(x.static_shape))
    lowering.call(
        "cumulate", (x,), lowering.output, axis=axis, kind=kind,
        exclusive=flag(node, "exclusive"), reverse=flag(node, "reverse"),
    )  # fmt: skip
