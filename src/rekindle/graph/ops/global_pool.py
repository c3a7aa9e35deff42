"""GlobalAveragePool, GlobalMaxPool and GlobalLpPool: one value for each channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Lower, Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import known_rank, numel, required

NAMES = ("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool")

Compute = Callable[[Node, Array, tuple[int, ...]], Array]


def _average(node: Node, x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(x.mean(axis=axes, keepdims=True))


def _max(node: Node, x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(x.max(axis=axes, keepdims=True))


def _lp(node: Node, x: Array, axes: tuple[int, ...]) -> Array:
    p = integer(node, "p", 2)
    return np.asarray((np.abs(x) ** p).sum(axis=axes, keepdims=True) ** (1 / p))


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    rank = known_rank(node, x, at_least=2)
    if x.shape is None or rank is None:
        return (TensorType(x.dtype, None),)
    return (TensorType(x.dtype, (*x.shape[:2], *(1,) * (rank - 2))),)


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    return numel(required(node, inputs, 0).shape)


def _lower(kind: str) -> Lower:
    def lower(lowering: Lowering) -> None:
        x = lowering.input(0)
        axes = tuple(range(2, len(x.static_shape)))
        lowering.call("reduce", (x,), lowering.output, kind=kind, axes=axes)

    return lower


def _operator(since: int, compute: Compute, lower: Lower | None) -> Operator:
    def reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = required(node, inputs, 0)
        return (rounded(compute(node, wide(x), tuple(range(2, x.ndim))), dtype_of(x)),)

    return Operator(
        since=since,
        infer=_infer,
        reference=reference,
        lower=lower,
        flops=_flops,
        layouts="spatial" if lower else "row-major",
    )


register("GlobalAveragePool", _operator(1, _average, _lower("mean")))
register("GlobalMaxPool", _operator(1, _max, _lower("max")))
register("GlobalLpPool", _operator(2, _lp, None))
