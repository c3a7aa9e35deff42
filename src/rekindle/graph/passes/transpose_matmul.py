"""A Transpose of the last two axes before a matrix product becomes a flag of the product.

Gemm becomes `rekindle::MatMul`, its factors and its third input the epilogue.
"""

from __future__ import annotations

from rekindle._types import Target
from rekindle.graph.ir import Graph, Node
from rekindle.graph.order import Uses
from rekindle.graph.passes import register
from rekindle.graph.passes._products import product, with_epilogue
from rekindle.graph.passes._rewrite import is_default, prune


def run(graph: Graph, target: Target | None) -> Graph:
    uses = Uses.of(graph)
    result = graph.copy()
    result.nodes = [_rewrite(graph, uses, node) for node in graph.nodes]
    read = {n for node in result.nodes for n in node.inputs} | uses.outputs
    result.nodes = [
        n for n in result.nodes if not is_default(n, "Transpose") or n.outputs[0] in read
    ]
    return prune(result)


def _rewrite(graph: Graph, uses: Uses, node: Node) -> Node:
    if not is_default(node, "Gemm", "MatMul"):
        return node
    whole = with_epilogue(graph, node)
    if whole is None:
        return node
    a, b = (_before_swap(uses.producer.get(n)) for n in whole.inputs[:2])
    if not a and not b and node.op_type == "MatMul":
        return node
    return product(
        whole,
        inputs=(a or whole.inputs[0], b or whole.inputs[1], *whole.inputs[2:]),
        transpose_a=whole.attr("transpose_a") != bool(a),
        transpose_b=whole.attr("transpose_b") != bool(b),
    )


def _before_swap(node: Node | None) -> str | None:
    """The input of a Transpose that swaps the last two axes and nothing else."""
    if node is None or not is_default(node, "Transpose"):
        return None
    perm = node.attr("perm")
    if perm is None:
        return None
    rank = len(perm)
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    return node.inputs[0] if rank >= 2 and tuple(perm) == swapped else None


register("transpose_matmul", run)
