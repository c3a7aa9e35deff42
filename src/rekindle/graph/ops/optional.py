"""OptionalHasElement and OptionalGetElement, of tensors: an optional that is there is a tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._shapes import optional, required, same_type

NAMES = ("OptionalGetElement", "OptionalHasElement")


def _has_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    there = np.asarray(optional(inputs, 0) is not None)
    return (TensorType(DType.BOOL, (), there),)


def _has(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    return (np.asarray(optional(inputs, 0) is not None),)


def _get(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    if optional(inputs, 0) is None:
        raise ModelError(f"node {node} asks for a value that is not there")
    return (required(node, inputs, 0),)


register("OptionalHasElement", Operator(since=15, infer=_has_infer, reference=_has))


def _get_lower(lowering: Lowering) -> None:
    lowering.call("view", (lowering.input(0),), lowering.output)


register(
    "OptionalGetElement",
    Operator(since=15, infer=same_type, reference=_get, lower=_get_lower),
)
