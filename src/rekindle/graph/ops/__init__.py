"""One file per operator (or family): its whole meaning.

An operator file registers one or more versions of its operators:

    register("HardSwish", Operator(since=14, infer=same_shape, reference=_reference, expr=_expr))

`infer`      output types from input types (and constants), symbolic dimensions allowed
`reference`  NumPy, the oracle: written for clarity, never for speed
`cost`       floating point operations; bytes follow from the shapes
`lower`      logical calls (`rekindle.graph.lowering`); or `expr` for an elementwise operator.
             With neither, the operator runs on the host, and the placement says so.

The version used is the newest one whose `since` is at most the model's opset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rekindle._registry import Registry
from rekindle._types import DType, Shape
from rekindle.graph.expr import Expr
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering


@dataclass(frozen=True)
class Operand:
    """What `infer` sees of an input: dtype, shape (None: unknown rank), constant if known."""

    dtype: DType
    shape: Shape | None
    constant: Array | None = None


@dataclass(frozen=True)
class TensorType:
    """What `infer` says of an output."""

    dtype: DType
    shape: Shape | None


Infer = Callable[[Node, Sequence[Operand | None]], tuple[TensorType, ...]]
Reference = Callable[[Node, Sequence[Array | None]], tuple[Array, ...]]
Flops = Callable[[Node, Sequence[Operand | None], Sequence[TensorType]], int]
Lower = Callable[[Lowering], None]
Express = Callable[..., Expr]
"""`expr(node, *args)`: args are Arg(0..n-1), one per input given."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One version of an operator. See the module's text for the parts."""

    since: int
    infer: Infer
    reference: Reference
    flops: Flops | None = None
    """None: the size of `expr` per output element for elementwise operators, else 0."""
    lower: Lower | None = None
    expr: Express | None = None


REGISTRY: Registry[tuple[Operator, ...]] = Registry(
    "rekindle.graph.ops",
    kind="operator",
    name_of=lambda stem: "".join(word.capitalize() for word in stem.split("_")),
    entry_points="rekindle.operators",
)


def register(name: str, *versions: Operator) -> None:
    """Register all versions of an operator; `name` is `Type` or `domain::Type`."""
    REGISTRY.register(name, tuple(sorted(versions, key=lambda v: v.since)))


def find(qualified: str, opset: int) -> Operator | None:
    """The newest version not newer than `opset`; None for an unknown operator or version."""
    if qualified not in REGISTRY:
        return None
    fitting = [v for v in REGISTRY.get(qualified) if v.since <= opset]
    return fitting[-1] if fitting else None
