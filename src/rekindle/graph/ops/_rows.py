"""Normalizations of rows that lie together, as one logical call."""

from __future__ import annotations

from collections.abc import Sequence

from rekindle._types import DType
from rekindle.graph.ir import Value
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops._attributes import number

_LONGEST = 2**16
"""Elements of a row that one work-item or one wave goes through: longer ones are shared out."""


def lower_rows(
    lowering: Lowering,
    x: Value,
    length: int,
    affine: Sequence[Value],
    layout: tuple[int, int, int],
    *,
    rms: bool = False,
) -> bool:
    """Rows of `length` as one `normalize` call into the output; False where it does not suit.

    `layout`: where scale and bias lie, the call's `affine`.
    """
    dtypes = {v.dtype for v in (x, *affine, lowering.output)}
    if DType.FLOAT64 in dtypes or x.dtype is not lowering.output.dtype or length > _LONGEST:
        return False
    lowering.call(
        "normalize",
        (x, *affine, *(None,) * (2 - len(affine))),
        lowering.output,
        length=length,
        rms=rms,
        epsilon=number(lowering.node, "epsilon", 1e-5),
        affine=layout,
    )
    return True
