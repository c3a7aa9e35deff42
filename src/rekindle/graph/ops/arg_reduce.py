"""ArgMax and ArgMin: where along an axis the extreme lies.

ONNX does not say what NaN does. As in ONNX Runtime's scan, a NaN in front stays and one further
on is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag, integer
from rekindle.graph.ops._axes import first_extreme, reduced_shape
from rekindle.graph.ops._elementwise import wide
from rekindle.graph.ops._shapes import normalize_axis, numel, required

NAMES = ("ArgMax", "ArgMin")


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    if x.shape is None:
        return (TensorType(DType.INT64, None),)
    if not x.shape:
        raise ModelError(f"node {node}: a scalar has no axis to search along")
    axis = normalize_axis(node, integer(node, "axis", 0), len(x.shape))
    if x.shape[axis] == 0 and 0 not in x.shape[:axis] + x.shape[axis + 1 :]:
        raise ModelError(f"node {node}: {list(x.shape)} has no elements along axis {axis}")
    shape = reduced_shape(x.shape, (axis,), flag(node, "keepdims", True))
    return (TensorType(DType.INT64, shape),)


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    return numel(required(node, inputs, 0).shape)


def _operator(kind: str, better: np.ufunc, or_equal: np.ufunc) -> Operator:
    def reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = wide(required(node, inputs, 0))
        axis = normalize_axis(node, integer(node, "axis", 0), x.ndim)
        moves_on = or_equal if flag(node, "select_last_index") else better
        found = first_extreme(x, axis, moves_on)
        return (np.expand_dims(found, axis) if flag(node, "keepdims", True) else found,)

    def lower(lowering: Lowering) -> None:
        x, node = lowering.input(0), lowering.node
        axis = normalize_axis(node, integer(node, "axis", 0), len(x.static_shape))
        last = flag(node, "select_last_index")
        lowering.call("arg_reduce", (x,), lowering.output, kind=kind, axis=axis, last=last)

    return Operator(since=1, infer=_infer, reference=reference, lower=lower, flops=_flops)


register("ArgMax", _operator("max", np.greater, np.greater_equal))
register("ArgMin", _operator("min", np.less, np.less_equal))
