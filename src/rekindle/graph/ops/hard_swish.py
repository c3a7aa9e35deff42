"""HardSwish: x * clip(x / 6 + 1 / 2, 0, 1) (Howard et al. 2019, "Searching for MobileNetV3")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle.graph.expr import Expr, maximum, minimum
from rekindle.graph.ir import Array, Node
from rekindle.graph.ops import Operator, register
from rekindle.graph.ops._shapes import same_type


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    (x,) = inputs
    assert x is not None
    return (x * np.clip(x / 6 + 0.5, 0, 1).astype(x.dtype),)


def _expr(node: Node, x: Expr) -> Expr:
    return x * minimum(maximum(x * (1 / 6) + 0.5, 0.0), 1.0)


register(
    "HardSwish",
    Operator(since=14, infer=same_type, reference=_reference, expr=_expr, layouts="any"),
)
