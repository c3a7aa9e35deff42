"""One file per operator (or family): its whole meaning.

An operator file registers one or more versions of its operators:

    register("HardSwish", Operator(since=14, infer=same_type, reference=_reference, expr=_expr))

`infer`      output types from input types (and constants), symbolic dimensions allowed
`reference`  NumPy, the oracle: written for clarity, never for speed
`flops`      floating point operations (a multiply-add is two); bytes follow from the shapes
`lower`      logical calls (`rekindle.graph.lowering`); or `expr` for an elementwise operator.
             With neither, the operator runs on the host, and the placement says so.
`expand`     for an operator that is written in others (`_composite`): those others

The version used is the newest one whose `since` is at most the model's opset; versions of the
ONNX standard that only widen the types share an entry. Callers use the functions below, not the
fields: they turn what malformed nodes provoke into a ModelError that names the node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rekindle._errors import MemoryLimitError, ModelError
from rekindle._registry import Registry
from rekindle._types import DType, Shape
from rekindle.graph.expr import Arg, Expr, arguments, size, substitute
from rekindle.graph.ir import Array, Graph, Node
from rekindle.graph.lowering import Lowering, NotLowered


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
    constant: Array | None = None
    """The value itself, where types alone tell it (Shape of a static input)."""


Infer = Callable[[Node, Sequence[Operand | None]], tuple[TensorType, ...]]
Reference = Callable[[Node, Sequence[Array | None]], tuple[Array, ...]]
Flops = Callable[[Node, Sequence[Operand | None], Sequence[TensorType]], int]
Lower = Callable[[Lowering], None]
Express = Callable[..., Expr]
"""`expr(node, *args)`: args are Arg(0..n-1), one per name in node.inputs; an absent optional
input (the empty name) has its Arg too, which the expression leaves out."""

Expand = Callable[[Graph, Node], tuple[list[Any], dict[str, Array]]]
"""Parts (`_composite.Part`) under the node's output names, and the constants they read."""

Layouts = Literal["row-major", "any", "spatial"]


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
    expand: Expand | None = None
    """The node in other operators (`_composite`), which a pass then puts in its place."""
    layouts: Layouts = "row-major"
    """Which layouts the lowering takes. "any": works on elements where they lie, so that all
    operands of the output's shape share one layout (others have one element, or one per channel).
    "spatial": x (the first input), the output and epilogue operands of its shape may be blocked."""


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


def shortened(node: Node, outputs: Sequence[str]) -> tuple[str, ...]:
    """A node's outputs without absent ones at the end, where their number says nothing."""
    kept = tuple(outputs)
    while kept and not kept[-1] and node.op_type != "Split":
        kept = kept[:-1]
    return kept


def infer(
    operator: Operator, node: Node, operands: Sequence[Operand | None]
) -> tuple[TensorType, ...]:
    """Types of all outputs of a node; ModelError where attributes or inputs do not fit."""
    with _blame(node):
        types = operator.infer(node, operands)
    if len(types) < len(node.outputs):
        raise ModelError(f"node {node} names {len(node.outputs)} outputs, it has {len(types)}")
    return types[: len(node.outputs)]


def compute(operator: Operator, node: Node, arrays: Sequence[Array | None]) -> tuple[Array, ...]:
    """Outputs of a node by its NumPy reference; ModelError where the inputs do not fit."""
    with _blame(node), np.errstate(all="ignore"):
        return operator.reference(node, arrays)[: len(node.outputs)]


def express(operator: Operator, node: Node) -> Expr | None:
    """What an elementwise node computes: Arg(i) is its i-th input. None: not elementwise."""
    if operator.expr is None:
        return None
    with _blame(node):
        return operator.expr(node, *map(Arg, range(len(node.inputs))))


def count_flops(
    operator: Operator,
    node: Node,
    operands: Sequence[Operand | None],
    types: Sequence[TensorType],
) -> int:
    """Floating point operations of a node whose shapes are all known."""
    if operator.flops is not None:
        with _blame(node):
            return operator.flops(node, operands, types)
    expr = express(operator, node)
    if expr is None:
        return 0
    return size(expr) * math.prod(d for d in types[0].shape or () if isinstance(d, int))


_MAX_ELEMENTS = 2**31
"""Kernels index with 32-bit integers."""


def lower(operator: Operator, lowering: Lowering) -> None:
    """Describe the node in logical calls; NotLowered where this case of it runs on the host."""
    node = lowering.node
    computed = [v for v in lowering.inputs if v and lowering.graph.constant(v.name) is None]
    for value in (*computed, *(v for v in lowering.outputs() if v)):
        if not value.is_static:
            raise NotLowered(f"the shape of {value.name!r} depends on the data")
        if (count := math.prod(value.static_shape)) >= _MAX_ELEMENTS:
            raise NotLowered(f"{value.name!r} has {count:,} elements, kernels count to 2**31")
        if value.dtype is DType.STRING:
            raise NotLowered(f"{value.name!r} holds strings")
    empty = [v.name for v in (*lowering.inputs, *lowering.outputs()) if v and 0 in v.static_shape]
    try:
        _describe(operator, lowering)
    except ModelError:
        if empty:
            raise NotLowered(f"{empty[0]!r} is empty") from None
        raise
    for call in lowering.calls:
        if any(v is not None and 0 in v.static_shape for v in call.inputs):
            raise NotLowered(f"{empty[0] if empty else node.outputs[0]!r} is empty")


def _describe(operator: Operator, lowering: Lowering) -> None:
    node = lowering.node
    if operator.lower is not None:
        with _blame(node):
            operator.lower(lowering)
        return
    expr = express(operator, node)
    if expr is None:
        raise NotLowered(f"{node.qualified} has no device form")
    read = arguments(expr)
    inputs = [lowering.input(i) for i in read]
    lowering.call(
        "elementwise",
        inputs,
        lowering.output,
        expr=substitute(expr, lambda i: Arg(read.index(i))),
    )


_MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


@contextmanager
def _blame(node: Node) -> Iterator[None]:
    """What NumPy and Python raise on nodes that do not fit becomes a ModelError naming them."""
    try:
        yield
    except MemoryError as error:
        raise MemoryLimitError(
            f"node {node}: the host has no memory for it: {error}",
            hint="use a smaller batch or model; a few bytes of shape can ask for any size",
        ) from error
    except _MALFORMED as error:
        raise ModelError(
            f"node {node}: its attributes and inputs do not fit together: {error}",
            hint="check the model with onnx.checker",
        ) from error
