"""BatchNormalization as inference runs it (Ioffe and Szegedy 2015): a line per channel.

Training mode (a second output until opset 13, the attribute since 14) is computed by the
reference, for models exported without a thought; it does not run on a device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle.graph.expr import Arg, call
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag, number
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import merge_dims, numel, required

_FLOPS_EACH = 2
"""Scale and shift, once the four parameters are folded."""


def _training(node: Node) -> bool:
    return flag(node, "training_mode") or len(node.outputs) > 1


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, *parameters = (required(node, inputs, i) for i in range(5))
    for parameter in parameters:
        if x.shape and len(x.shape) > 1 and parameter.shape:
            merge_dims(node, x.shape[1], parameter.shape[0])
    mean, variance = parameters[2:]
    statistics = [TensorType(p.dtype, p.shape) for p in (mean, variance, mean, variance)]
    return (TensorType(x.dtype, x.shape), *statistics)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    given = required(node, inputs, 0)
    x, scale, bias, mean, variance = (wide(required(node, inputs, i)) for i in range(5))
    outputs: list[Array] = []
    if _training(node):
        momentum, axes = number(node, "momentum", 0.9), (0, *range(2, x.ndim))
        batch_mean, batch_variance = x.mean(axis=axes), x.var(axis=axes)
        running_mean = mean * momentum + batch_mean * (1 - momentum)
        running_variance = variance * momentum + batch_variance * (1 - momentum)
        mean, variance = batch_mean, batch_variance
        outputs = [running_mean, running_variance, batch_mean, batch_variance]

    def along(parameter: Array) -> Array:
        """(C,) against (N, C, *S); opset 7 with spatial=0 has (C, *S)."""
        return parameter.reshape(parameter.shape + (1,) * (x.ndim - 1 - parameter.ndim))

    deviation = np.sqrt(along(variance) + number(node, "epsilon", 1e-5))
    y = (x - along(mean)) / deviation * along(scale) + along(bias)
    return (
        rounded(y, dtype_of(given)),
        *(rounded(o, dtype_of(required(node, inputs, 3))) for o in outputs),
    )


def _lower(lowering: Lowering) -> None:
    node, x = lowering.node, lowering.input(0)
    if _training(node):
        raise NotLowered("BatchNormalization in training mode")
    rank = len(x.static_shape)
    parameters = []
    for index in range(1, 5):
        parameter = lowering.input(index)
        shape = parameter.static_shape
        wanted = shape + (1,) * (rank - 1 - len(shape))
        parameters.append(parameter if shape == wanted else lowering.view(parameter, wanted))
    scale, bias, mean, variance = (Arg(i) for i in range(1, 5))
    deviation = call("sqrt", variance + number(node, "epsilon", 1e-5))
    expr = (Arg(0) - mean) * (scale / deviation) + bias
    lowering.call("elementwise", (x, *parameters), lowering.output, expr=expr)


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    return _FLOPS_EACH * numel(outputs[0].shape)


register(
    "BatchNormalization",
    Operator(
        since=7,
        infer=_infer,
        reference=_reference,
        lower=_lower,
        flops=_flops,
        layouts="any",
    ),
)
