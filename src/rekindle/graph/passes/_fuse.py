"""Elementwise nodes as expressions over named values, and how two of them become one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rekindle._types import DType
from rekindle.graph import ops
from rekindle.graph.expr import Arg, Cast, Const, Expr, arguments, size, substitute
from rekindle.graph.ir import Graph, Node
from rekindle.graph.ops._shapes import broadcast
from rekindle.graph.passes._rewrite import scalar

MAX_SIZE = 64
"""Primitives in one expression: beyond, registers run out before memory traffic matters."""

MAX_INPUTS = 8
"""Values one fused node reads."""


@dataclass(frozen=True)
class Elementwise:
    """An expression in which Arg(i) is the value `names[i]`; each name occurs once."""

    expr: Expr
    names: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return size(self.expr) <= MAX_SIZE and len(self.names) <= MAX_INPUTS

    def absorb(self, name: str, inner: Elementwise) -> Elementwise:
        """Replace the value `name` by the expression `inner` that computes it."""
        names = tuple(dict.fromkeys((*self.names, *inner.names)))
        inlined = substitute(inner.expr, lambda i: Arg(names.index(inner.names[i])))
        whole = substitute(
            self.expr,
            lambda i: inlined if self.names[i] == name else Arg(names.index(self.names[i])),
        )
        return compact(whole, names)

    def where(self, replacements: Mapping[str, Expr]) -> Expr:
        """The expression with every value replaced."""
        return substitute(self.expr, lambda i: replacements[self.names[i]])


def compact(expr: Expr, names: tuple[str, ...]) -> Elementwise:
    """`expr` over `names`, without those it does not read."""
    read = arguments(expr)
    return Elementwise(
        substitute(expr, lambda i: Arg(read.index(i))), tuple(names[i] for i in read)
    )


def elementwise(graph: Graph, node: Node) -> Elementwise | None:
    """What an elementwise node computes, scalar constants written into the expression.

    None: the node is not elementwise, or its shapes are not known.
    """
    operator = ops.find(node.qualified, graph.opset(node.domain))
    expr = ops.express(operator, node) if operator is not None else None
    if expr is None or len(node.outputs) != 1 or not graph.values[node.outputs[0]].is_static:
        return None
    names = tuple(dict.fromkeys(node.inputs[i] for i in arguments(expr)))
    values = [graph.values[n] for n in names]
    if not values or not all(v.is_static and v.dtype is not DType.STRING for v in values):
        return None
    over = Elementwise(substitute(expr, lambda i: Arg(names.index(node.inputs[i]))), names)
    constants = _constants(graph, node, names)
    if not constants:
        return over
    kept = {n: constants.get(n, Arg(i)) for i, n in enumerate(names)}
    return compact(over.where(kept), names)


def _constants(graph: Graph, node: Node, names: tuple[str, ...]) -> dict[str, Expr]:
    """Scalar constants that a `Const` can stand for without changing dtype or shape."""
    found: dict[str, Expr] = {
        n: Const(value) for n in names if (value := scalar(graph.constant(n))) is not None
    }
    rest = [n for n in names if n not in found]
    # A Const takes the dtype of what it meets, so something of that dtype must be there.
    dtypes = {graph.values[n].dtype for n in rest}
    for name in list(found):
        dtype = graph.values[name].dtype
        weak = not dtype.is_float and dtype is not DType.BOOL and any(d.is_float for d in dtypes)
        if dtype not in dtypes and not weak:
            del found[name]
            rest.append(name)
    whole = broadcast(node, *(graph.values[n].shape for n in rest))
    return found if whole == graph.values[node.outputs[0]].shape else {}


def composes(graph: Graph, node: Node, fused: Elementwise) -> bool:
    """Whether the node's expression by itself has the dtype of its output.

    Mixed dtypes without a cast (Pow of integers by floats) rely on the rounding at the end.
    """
    output = graph.values[node.outputs[0]].dtype
    dtypes = {graph.values[n].dtype for n in fused.names} - {DType.BOOL}
    return isinstance(fused.expr, Cast) or output is DType.BOOL or dtypes <= {output}


def broadcasts_to(graph: Graph, name: str, shape: tuple[int, ...]) -> bool:
    """Whether a value broadcasts to `shape` without enlarging it."""
    given = graph.values[name].static_shape
    if len(given) > len(shape):
        return False
    aligned = (1,) * (len(shape) - len(given)) + given
    return all(a in (1, b) for a, b in zip(aligned, shape, strict=True))


def is_single(graph: Graph, name: str) -> bool:
    return all(d == 1 for d in graph.values[name].static_shape)
