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
    "layer_norm_fusion",  # while its means are plain
    "global_average_pool",  # a spatial mean that takes blocked images
    "attention_fusion",  # while its products are plain
    "transpose_matmul",  # before its MatMul gets an epilogue
    "packed_weights",  # once it is plain which way the weights lie
    "elementwise_fusion",  # a whole activation or residual becomes one node
    "epilogue_fusion",  # which then joins the convolution or product that feeds it
    "layout",  # decides where blocked values begin and end: last, when all nodes are there
    "dead_nodes",
)
"""On a graph bound to concrete shapes, for a Target."""

_WEIGHTS = {"fp32": "decoded_weights", "int8w": "int8_weights", "int4w": "int4_weights"}
_VALUES = {
    "fp16": "half_weights", "bf16w": "bfloat16_weights", "int8w": "half_values",
    "int4w": "half_values",
}  # fmt: skip


def portable(precision: str = "model") -> tuple[str, ...]:
    """The passes on load for a session's `precision`: weights become what it says, last."""
    last = (_WEIGHTS[precision],) if precision in _WEIGHTS else ()
    return (*PORTABLE, *last) if precision != "fp32" else (*last, *PORTABLE)


def device(precision: str = "model") -> tuple[str, ...]:
    """The passes on a bound graph: what lies between nodes is narrowed when all are fused."""
    if precision not in _VALUES:
        return DEVICE
    at = DEVICE.index("layout")
    return (*DEVICE[:at], _VALUES[precision], *DEVICE[at:])


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
