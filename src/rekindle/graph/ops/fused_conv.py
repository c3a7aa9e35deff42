"""rekindle::Conv: Conv with an epilogue, written by the fusion passes.

Inputs: X, W, B (may be absent), then the epilogue's operands. Attributes: those of Conv with
explicit `pads`; `exact`: its sums are whole numbers and must stay them; and `epilogue` (an Expr or
None), in which Arg(0) is the convolution with its bias and Arg(i) the i-th operand. With `decode`
(a Decode) W is integers; `dtype` is that of the result where it is not X's. Inputs may be stored in
different float types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rekindle.graph.decode import Decode
from rekindle.graph.expr import Expr, evaluate, size
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import dtype
from rekindle.graph.ops._convolution import (
    call_convolution,
    convolution_flops,
    convolution_type,
    convolve,
)
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import broadcast, numel, required

NAMES = ("rekindle::Conv",)

_OPERANDS = 3
"""Inputs before the epilogue's operands."""


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    # Weights and bias have storage types of their own here, integers among them.
    alike = [replace(o, dtype=x.dtype) if o is not None else None for o in inputs[:_OPERANDS]]
    y = convolution_type(node, alike)
    for index in range(_OPERANDS, len(inputs)):
        broadcast(node, y.shape, required(node, inputs, index).shape)
    return (TensorType(dtype(node, "dtype", x.dtype), y.shape),)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, w, *bias = inputs[:_OPERANDS]
    decode: Decode | None = node.attr("decode")
    y = convolve(node, [x, decode(w) if decode is not None and w is not None else w, *bias])
    epilogue: Expr | None = node.attr("epilogue")
    if epilogue is not None:
        operands = [required(node, inputs, i) for i in range(_OPERANDS, len(inputs))]
        y = evaluate(epilogue, [y, *map(wide, operands)])
    return (rounded(y, dtype(node, "dtype", dtype_of(required(node, inputs, 0)))),)


def _lower(lowering: Lowering) -> None:
    call_convolution(lowering, lowering.inputs[_OPERANDS:], lowering.node.attr("epilogue"))


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    epilogue: Expr | None = node.attr("epilogue")
    after = size(epilogue) * numel(outputs[0].shape) if epilogue is not None else 0
    return convolution_flops(required(node, inputs, 1), outputs[0]) + after


register(
    "rekindle::Conv",
    Operator(
        since=1,
        infer=_infer,
        reference=_reference,
        lower=_lower,
        flops=_flops,
        layouts="spatial",
    ),
)
