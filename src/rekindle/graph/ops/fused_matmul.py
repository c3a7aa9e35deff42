"""rekindle::MatMul: a matrix product with an epilogue, written by the fusion passes.

Inputs: A, B, then the epilogue's operands, each broadcast to the output. Attributes: transpose_a
and transpose_b (of the last two axes), and `epilogue` (an Expr or None), in which Arg(0) is the
product and Arg(i) the i-th operand. With `decode` (a Decode) B is integers; `dtype` is that of the
result where it is not A's. A, B and the operands may be stored in different float types.
"""

from __future__ import annotations

from collections.abc import Sequence

from rekindle.graph.decode import Decode
from rekindle.graph.expr import Expr, evaluate, size
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import dtype, flag
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._products import (
    call_product,
    multiply,
    product_flops,
    product_shape,
    swap_last,
)
from rekindle.graph.ops._shapes import broadcast, numel, required

NAMES = ("rekindle::MatMul",)


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    a, b = required(node, inputs, 0), required(node, inputs, 1)
    left = swap_last(a.shape, flag(node, "transpose_a"))
    right = swap_last(b.shape, flag(node, "transpose_b"))
    shape = product_shape(node, left, right)
    for index in range(2, len(inputs)):
        broadcast(node, shape, required(node, inputs, index).shape)
    return (TensorType(dtype(node, "dtype", a.dtype), shape),)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    a, b = required(node, inputs, 0), required(node, inputs, 1)
    decode: Decode | None = node.attr("decode")
    b = b if decode is None else decode(b)
    y = multiply(a, b, transpose_a=flag(node, "transpose_a"), transpose_b=flag(node, "transpose_b"))
    epilogue: Expr | None = node.attr("epilogue")
    if epilogue is not None:
        operands = [required(node, inputs, i) for i in range(2, len(inputs))]
        y = evaluate(epilogue, [y, *map(wide, operands)])
    return (rounded(y, dtype(node, "dtype", dtype_of(a))),)


def _lower(lowering: Lowering) -> None:
    node = lowering.node
    call_product(
        lowering,
        lowering.inputs[2:],
        node.attr("epilogue"),
        transpose_a=flag(node, "transpose_a"),
        transpose_b=flag(node, "transpose_b"),
        decode=node.attr("decode"),
    )


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    epilogue: Expr | None = node.attr("epilogue")
    after = size(epilogue) * numel(outputs[0].shape) if epilogue is not None else 0
    a, transposed = required(node, inputs, 0).shape, flag(node, "transpose_a")
    return product_flops(a, outputs[0].shape, transpose_a=transposed) + after


register(
    "rekindle::MatMul",
    Operator(since=1, infer=_infer, reference=_reference, lower=_lower, flops=_flops),
)
