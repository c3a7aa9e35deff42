"""What elementwise operators share: types by broadcasting, a reference in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.ir import Array, Node, dtype_of, numpy_dtype
from rekindle.graph.ops import Express, Operand, Operator, TensorType
from rekindle.graph.ops._shapes import broadcast, required, same_dtype

Compute = Callable[..., Array]
"""`compute(node, *arrays)`: the values, floats given as float64; the caller rounds."""


def wide(x: Array) -> Array:
    """Floats as float64, so that a reference rounds once, at its end; other dtypes as they are."""
    return x.astype(np.float64, copy=False) if dtype_of(x).is_float else x


def rounded(values: Array, dtype: DType) -> Array:
    """`values` in the NumPy dtype of `dtype`."""
    return np.asarray(values).astype(numpy_dtype(dtype), copy=False)


def elementwise(
    compute: Compute,
    expr: Express,
    *,
    since: int,
    arity: int | None,
    takes: DType | None = None,
    gives: DType | None = None,
) -> Operator:
    """An operator of `arity` inputs (None: one or more) of one dtype, broadcast as NumPy does.

    `takes`: the dtype the inputs must have; `gives`: the output's dtype, else that of the inputs.
    """

    def infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
        operands = [required(node, inputs, i) for i in range(max(len(inputs), 1))]
        if arity is not None and len(operands) != arity:
            raise ModelError(f"node {node} has {len(operands)} inputs, expected {arity}")
        dtype = same_dtype(node, operands)
        if takes is not None and dtype is not takes:
            raise ModelError(f"node {node} takes {takes} inputs, got {dtype}")
        return (TensorType(gives or dtype, broadcast(node, *(o.shape for o in operands))),)

    def reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        arrays = [required(node, inputs, i) for i in range(max(len(inputs), 1))]
        values = compute(node, *map(wide, arrays))
        return (rounded(values, gives or dtype_of(arrays[0])),)

    return Operator(since=since, infer=infer, reference=reference, expr=expr, layouts="any")
