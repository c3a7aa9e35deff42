"""What follows a convolution or matrix product is done before its result is stored.

An elementwise node that reads the product (an activation, a residual and its activation) becomes
the product's epilogue; its other inputs become operands. The merged node stands where the
elementwise node stood, where all operands exist.
"""

from __future__ import annotations

from dataclasses import replace

from rekindle._types import Target
from rekindle.graph.expr import Arg, Expr, size
from rekindle.graph.ir import Graph, Node
from rekindle.graph.order import Uses
from rekindle.graph.passes import register
from rekindle.graph.passes._fuse import (
    MAX_SIZE,
    Elementwise,
    broadcasts_to,
    elementwise,
    is_single,
)
from rekindle.graph.passes._products import operands_from, with_epilogue
from rekindle.graph.passes._rewrite import prune

MAX_OPERANDS = 4
"""Values an epilogue reads besides the product."""


def run(graph: Graph, target: Target | None) -> Graph:
    uses = Uses.of(graph)
    nodes: list[Node | None] = []
    products: dict[str, int] = {}
    for node in graph.nodes:
        # Of two products under one Add the later one takes it: the other's result exists then.
        sources = [n for n in node.inputs if n in products and uses.sole_reader(n) is node]
        source = max(sources, key=lambda n: products[n], default=None)
        merged = None
        if source is not None:
            merged = _merge(graph, nodes[products[source]], node, source)
        if merged is not None and source is not None:
            nodes[products[source]] = None
        nodes.append(merged or node)
        if with_epilogue(graph, merged or node) is not None:
            products[node.outputs[0]] = len(nodes) - 1
    result = graph.copy()
    result.nodes = [n for n in nodes if n is not None]
    return prune(result)


def _merge(graph: Graph, maker: Node | None, node: Node, source: str) -> Node | None:
    """`maker` with `node` as (the end of) its epilogue; None where the two do not fit."""
    product = with_epilogue(graph, maker) if maker is not None else None
    what = elementwise(graph, node)
    if product is None or what is None or source not in what.names:
        return None
    before, after = graph.values[source], graph.values[node.outputs[0]]
    if (before.shape, before.dtype) != (after.shape, after.dtype):
        return None
    first = operands_from(product)
    operands = tuple(
        dict.fromkeys((*product.inputs[first:], *(n for n in what.names if n != source)))
    )
    if len(operands) > MAX_OPERANDS or not all(
        _allowed(graph, product, n, after.static_shape) for n in operands
    ):
        return None
    epilogue = _compose(product, what, source, operands, first)
    if size(epilogue) > MAX_SIZE:
        return None
    return replace(
        product,
        inputs=(*product.inputs[:first], *operands),
        outputs=node.outputs,
        attrs={**product.attrs, "epilogue": epilogue},
    )


def _allowed(graph: Graph, product: Node, name: str, shape: tuple[int, ...]) -> bool:
    """Whether an epilogue can read a value of this shape: see `conv` and `matmul` in lowering."""
    value = graph.values[name]
    if value.dtype is not graph.values[product.inputs[0]].dtype or not value.is_static:
        return False
    if product.op_type == "MatMul":
        return broadcasts_to(graph, name, shape)
    return value.shape == shape or is_single(graph, name)


def _compose(
    product: Node, what: Elementwise, source: str, operands: tuple[str, ...], first: int
) -> Expr:
    """The product's own epilogue put in place of `source`, operands numbered from 1."""
    own: Expr | None = product.attr("epilogue")
    inner = Elementwise(Arg(0) if own is None else own, ("", *product.inputs[first:]))
    place: dict[str, Expr] = {n: Arg(i) for i, n in enumerate(operands, 1)}
    done = inner.where({"": Arg(0), **place})
    return what.where({**place, source: done})


register("epilogue_fusion", run)
