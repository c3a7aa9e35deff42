"""Identity, and Dropout as inference runs it: the output is the input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.expr import Arg, Expr
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._shapes import optional, required, same_type

NAMES = ("Dropout", "Identity")


def _identity(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    return (required(node, inputs, 0),)


def _identity_expr(node: Node, x: Expr) -> Expr:
    return x


def _dropout_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    return (TensorType(x.dtype, x.shape), TensorType(DType.BOOL, x.shape))


def _dropout_old_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    """Opset 7: the mask has the input's dtype."""
    (y,) = same_type(node, inputs)
    return (y, y)


def _dropout(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, training = required(node, inputs, 0), optional(inputs, 2)
    if training is not None and training.any():
        raise ModelError(
            f"node {node} is in training mode, which drops at random",
            hint="export the model for inference",
        )
    return (x, np.ones(x.shape, bool))


def _dropout_old(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = required(node, inputs, 0)
    return (x, np.ones_like(x))


def _dropout_lower(lowering: Lowering) -> None:
    training = lowering.constant(2)
    if any(lowering.outputs()[1:]):
        raise NotLowered("Dropout with its mask")
    if lowering.has_input(2) and (training is None or training.any()):
        raise NotLowered("Dropout that may be in training mode")
    lowering.call("elementwise", (lowering.input(0),), lowering.output, expr=Arg(0))


register(
    "Identity",
    Operator(since=1, infer=same_type, reference=_identity, expr=_identity_expr, layouts="any"),
)
register(
    "Dropout",
    Operator(
        since=7,
        infer=_dropout_old_infer,
        reference=_dropout_old,
        lower=_dropout_lower,
        layouts="any",
    ),
    Operator(
        since=10,
        infer=_dropout_infer,
        reference=_dropout,
        lower=_dropout_lower,
        layouts="any",
    ),
)
