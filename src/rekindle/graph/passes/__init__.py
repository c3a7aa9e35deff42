"""Passes: each file rewrites a graph into one that computes the same with less work.

A pass file registers one function `run(graph, target) -> Graph`, which leaves its argument
untouched, keeps names, dtypes and shapes of inputs and outputs, and what NaN does. The order of
the lists below is deliberate: each line says what it prepares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rekindle._errors import ModelError
from rekindle._log import debug
from rekindle._registry import Registry
from rekindle._types import Target
from rekindle.graph.ir import Graph
from rekindle.graph.verify import verify

Pass = Callable[[Graph, Target | None], Graph]

REGISTRY: Registry[Pass] = Registry(
    "rekindle.graph.passes", kind="pass", entry_points="rekindle.passes"
)

PORTABLE = (
    "constant_folding",  # Constant nodes become initializers, which the others look at
    "identity_elimination",  # neighbours meet
    "pad_conv",  # Pad is gone between convolutions
    "conv_batch_norm",  # per-channel arithmetic disappears into weights
    "dead_nodes",
)
"""On load: shapes may be symbolic, and only plain ONNX operators are written."""

DEVICE = (
    "expansion",  # operators that are written in others become those: the rest sees plain ones
    "whole_numbers",  # quantized arithmetic as floats, which fusion and layouts then see
    "identity_elimination",  # more of them show once shapes are concrete (`bind` has folded)
    "dead_nodes",  # a value's readers are now all real: fusion counts them
    "pad_conv",
    "conv_batch_norm",
    "global_average_pool",  # a spatial mean that takes blocked images
    "attention_fusion",  # while its products are plain
    "transpose_matmul",  # before its MatMul gets an epilogue
    "elementwise_fusion",  # a whole activation or residual becomes one node
    "epilogue_fusion",  # which then joins the convolution or product that feeds it
    "layout",  # decides where blocked values begin and end: last, when all nodes are there
    "dead_nodes",
)
"""On a graph bound to concrete shapes, for a Target."""


def register(name: str, function: Pass) -> None:
    REGISTRY.register(name, function)


def run(
    graph: Graph, names: Sequence[str], target: Target | None = None, *, check: bool = False
) -> Graph:
    """The graph after the passes `names`, in that order.

    `check` verifies after each one; the ModelError then names the pass that broke the graph.
    """
    for name in names:
        before = len(graph.nodes)
        graph = REGISTRY.get(name)(graph, target)
        debug(2, "pass %s: %d -> %d nodes", name, before, len(graph.nodes))
        if check:
            try:
                verify(graph)
            except ModelError as error:
                raise ModelError(f"pass {name} broke the graph: {error.message}") from error
    return graph
