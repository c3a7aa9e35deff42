"""Convolutions and matrix products in the form that carries an epilogue."""

from __future__ import annotations

from typing import Any

from rekindle.graph.expr import Arg, Expr
from rekindle.graph.ir import OWN_DOMAIN, Graph, Node
from rekindle.graph.ops._convolution import frame_of
from rekindle.graph.passes._rewrite import has_input, is_default


def operands_from(node: Node) -> int:
    """Where the epilogue's operands begin among a product's inputs."""
    return 3 if node.op_type == "Conv" else 2


def with_epilogue(graph: Graph, node: Node) -> Node | None:
    """The node as `rekindle::Conv` or `rekindle::MatMul`; None for any other node.

    Also None where it cannot be one: integers, vectors, shapes not known.
    """
    if node.domain == OWN_DOMAIN and node.op_type in ("Conv", "MatMul"):
        return node
    if not is_default(node, "Conv", "Gemm", "MatMul"):
        return None
    values = [graph.values[n] for n in (*node.inputs[:2], node.outputs[0])]
    if not all(v.is_static and v.dtype.is_float and len(v.static_shape) > 1 for v in values):
        return None
    if node.op_type == "Conv":
        return _conv(graph, node)
    return _gemm(node) if node.op_type == "Gemm" else product(node)


def _conv(graph: Graph, node: Node) -> Node:
    x, w = (graph.values[n].static_shape for n in node.inputs[:2])
    attrs = {k: v for k, v in node.attrs.items() if k != "auto_pad"}
    attrs["pads"] = frame_of(node, w[2:]).padding(x[2:])
    attrs["epilogue"] = None
    bias = node.inputs[2] if has_input(node, 2) else ""
    return Node("Conv", (*node.inputs[:2], bias), node.outputs, attrs, OWN_DOMAIN, node.name)


def _gemm(node: Node) -> Node:
    """Write alpha * A' B' + beta * C with an epilogue for what Gemm adds to the product."""
    alpha, beta = float(node.attr("alpha", 1.0)), float(node.attr("beta", 1.0))
    expr: Expr = Arg(0) if alpha == 1.0 else Arg(0) * alpha
    inputs = node.inputs[:2]
    if has_input(node, 2):
        inputs = node.inputs[:3]
        expr = expr + (Arg(1) if beta == 1.0 else Arg(1) * beta)
    return product(
        node,
        inputs=inputs,
        transpose_a=bool(node.attr("transA", 0)),
        transpose_b=bool(node.attr("transB", 0)),
        epilogue=None if expr == Arg(0) else expr,
    )


def product(node: Node, *, inputs: tuple[str, ...] | None = None, **changes: Any) -> Node:
    """A MatMul, or one of our own, as `rekindle::MatMul` with some attributes changed."""
    attrs = {
        "transpose_a": node.attr("transpose_a", False),
        "transpose_b": node.attr("transpose_b", False),
        "epilogue": node.attr("epilogue"),
        **changes,
    }
    return Node("MatMul", inputs or node.inputs, node.outputs, attrs, OWN_DOMAIN, node.name)
