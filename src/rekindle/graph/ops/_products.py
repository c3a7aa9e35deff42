"""Matrix products: the types and the NumPy reference that MatMul, Gemm and fused forms share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Shape
from rekindle.graph.expr import Expr
from rekindle.graph.ir import Array, Node, Value
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops._elementwise import wide
from rekindle.graph.ops._shapes import broadcast, merge_dims


def product_shape(node: Node, a: Shape | None, b: Shape | None) -> Shape | None:
    """NumPy's matmul: (..., M, K) by (..., K, N); an operand of rank 1 loses its axis."""
    if a is None or b is None:
        return None
    if not a or not b:
        raise ModelError(f"node {node}: a scalar in a matrix product; expected rank 1 or more")
    rows, columns = a[-2:-1], b[-1:] if len(b) > 1 else ()
    merge_dims(node, a[-1], b[-2] if len(b) > 1 else b[0])
    return (*(broadcast(node, a[:-2], b[:-2]) or ()), *rows, *columns)


def swap_last(shape: Shape | None, transposed: bool) -> Shape | None:
    if not transposed or shape is None or len(shape) < 2:
        return shape
    return (*shape[:-2], shape[-1], shape[-2])


def multiply(a: Array, b: Array, *, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    """The product; floats in float64, integers in their own dtype."""
    a, b = wide(a), wide(b)
    a = a.swapaxes(-1, -2) if transpose_a and a.ndim > 1 else a
    b = b.swapaxes(-1, -2) if transpose_b and b.ndim > 1 else b
    return np.asarray(a @ b)


def call_product(
    lowering: Lowering, operands: Sequence[Value | None], epilogue: Expr | None, **params: Any
) -> None:
    """The logical `matmul` of inputs 0 and 1; operands of rank 1 become matrices by views."""
    a, b, out = lowering.input(0), lowering.input(1), lowering.output
    if not a.dtype.is_float:
        raise NotLowered(f"a matrix product of {a.dtype}")
    left, right = a.static_shape, b.static_shape
    shape = out.static_shape
    if len(right) == 1:
        b, shape = lowering.view(b, (right[0], 1)), (*shape, 1)
    if len(left) == 1:
        a, shape = lowering.view(a, (1, left[0])), (*shape[:-1], 1, shape[-1])
    if shape == out.static_shape:
        lowering.call("matmul", (a, b, *operands), out, epilogue=epilogue, **params)
        return
    if epilogue is not None:
        raise NotLowered("a vector product with an epilogue")
    y = lowering.call(
        "matmul", (a, b), lowering.temporary(shape, out.dtype), epilogue=None, **params
    )
    lowering.call("view", (y,), out)


def product_flops(a: Shape | None, output: Shape | None, *, transpose_a: bool = False) -> int:
    """Two for each multiply-add."""
    inner = swap_last(a, transpose_a)
    total = 2
    for dim in (*(output or ()), *(inner or ())[-1:]):
        total *= dim if isinstance(dim, int) else 1
    return total
