"""Conv: convolution over 1, 2 or 3 spatial axes; grouped, depthwise, dilated."""

from __future__ import annotations

from collections.abc import Sequence

from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._convolution import (
    call_convolution,
    convolution_flops,
    convolution_type,
    convolve,
)
from rekindle.graph.ops._elementwise import rounded
from rekindle.graph.ops._shapes import required


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    return (convolution_type(node, inputs),)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    return (rounded(convolve(node, inputs), dtype_of(required(node, inputs, 0))),)


def _lower(lowering: Lowering) -> None:
    call_convolution(lowering, (), None)


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    return convolution_flops(required(node, inputs, 1), outputs[0])


register(
    "Conv",
    Operator(
        since=1,
        infer=_infer,
        reference=_reference,
        lower=_lower,
        flops=_flops,
        layouts="spatial",
    ),
)
