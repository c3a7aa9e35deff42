"""MatMul: the matrix product, as numpy.matmul."""

from __future__ import annotations

from collections.abc import Sequence

from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._elementwise import rounded
from rekindle.graph.ops._products import call_product, multiply, product_flops, product_shape
from rekindle.graph.ops._shapes import required, same_dtype

NAMES = ("MatMul",)


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    a, b = required(node, inputs, 0), required(node, inputs, 1)
    return (TensorType(same_dtype(node, (a, b)), product_shape(node, a.shape, b.shape)),)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    a, b = required(node, inputs, 0), required(node, inputs, 1)
    return (rounded(multiply(a, b), dtype_of(a)),)


def _lower(lowering: Lowering) -> None:
    call_product(lowering, (), None, transpose_a=False, transpose_b=False)


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    return product_flops(required(node, inputs, 0).shape, outputs[0].shape)


register(
    "MatMul",
    Operator(since=1, infer=_infer, reference=_reference, lower=_lower, flops=_flops),
)
