"""rekindle::Reorder: the same values in another layout; the layout pass writes it."""

from __future__ import annotations

from collections.abc import Sequence

from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operator, register
from rekindle.graph.ops._shapes import required, same_type

NAMES = ("rekindle::Reorder",)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    return (required(node, inputs, 0),)


def _lower(lowering: Lowering) -> None:
    lowering.call("reorder", (lowering.input(0),), lowering.output)


register(
    "rekindle::Reorder",
    Operator(since=1, infer=same_type, reference=_reference, lower=_lower, layouts="any"),
)
