"""Gemm: alpha * A' * B' + beta * C, C broadcast to the product's shape."""

from __future__ import annotations

from collections.abc import Sequence

from rekindle._errors import ModelError
from rekindle.graph.expr import Arg, Expr
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag, number
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._products import (
    call_product,
    multiply,
    product_flops,
    product_shape,
    swap_last,
)
from rekindle.graph.ops._shapes import broadcast, known_rank, optional, required, same_dtype


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    a, b, c = required(node, inputs, 0), required(node, inputs, 1), optional(inputs, 2)
    dtype = same_dtype(node, (a, b, c))
    if any(known_rank(node, matrix) not in (None, 2) for matrix in (a, b)):
        raise ModelError(f"node {node} multiplies {a.shape} by {b.shape}, expected two matrices")
    left, right = swap_last(a.shape, flag(node, "transA")), swap_last(b.shape, flag(node, "transB"))
    shape = product_shape(node, left, right)
    if c is not None and shape is not None and c.shape is not None:
        shape = broadcast(node, shape, c.shape)
    return (TensorType(dtype, shape),)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    a, b, c = required(node, inputs, 0), required(node, inputs, 1), optional(inputs, 2)
    y = multiply(a, b, transpose_a=flag(node, "transA"), transpose_b=flag(node, "transB"))
    y = number(node, "alpha", 1.0) * y
    if c is not None:
        y = y + number(node, "beta", 1.0) * wide(c)
    return (rounded(y, dtype_of(a)),)


def _lower(lowering: Lowering) -> None:
    node = lowering.node
    alpha, beta = number(node, "alpha", 1.0), number(node, "beta", 1.0)
    scaled: Expr = Arg(0) if alpha == 1.0 else Arg(0) * alpha
    operands = lowering.inputs[2:3] if lowering.has_input(2) and beta else ()
    if operands:
        scaled = scaled + (Arg(1) if beta == 1.0 else Arg(1) * beta)
    call_product(
        lowering,
        operands,
        None if scaled == Arg(0) else scaled,
        transpose_a=flag(node, "transA"),
        transpose_b=flag(node, "transB"),
    )


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    a = required(node, inputs, 0).shape
    return product_flops(a, outputs[0].shape, transpose_a=flag(node, "transA"))


register("Gemm", Operator(since=7, infer=_infer, reference=_reference, lower=_lower, flops=_flops))
