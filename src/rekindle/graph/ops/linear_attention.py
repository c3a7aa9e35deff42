"""LinearAttention: attention whose memory is one matrix a head, updated step by step.

Katharopoulos et al. 2020 "Transformers are RNNs"; Yang et al. 2024 "Gated Delta Networks" for the
decay and the delta rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Dim
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer, number, text
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._linear_memory import lower_steps
from rekindle.graph.ops._shapes import numel, optional, required, unknown_dim

_RULES = ("linear", "gated", "delta", "gated_delta")


def _heads(node: Node) -> tuple[int, int]:
    queries, keys = integer(node, "q_num_heads"), integer(node, "kv_num_heads")
    if keys < 1 or queries < 1 or queries % keys:
        raise ModelError(f"node {node}: {queries} query heads do not share {keys} key heads")
    return queries, keys


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    q, k, v, past = (optional(inputs, i) for i in range(4))
    if q is None or k is None or v is None:
        raise ModelError(f"node {node} lacks its query, key or value")
    queries, heads = _heads(node)
    state = q.dtype if past is None else past.dtype
    if q.shape is None or k.shape is None or v.shape is None:
        return (TensorType(q.dtype, None), TensorType(state, None))
    sizes: list[Dim] = [unknown_dim(node, i, 1) for i in (2, 3)]
    for i, x in enumerate((k, v)):
        last = (x.shape or ())[-1]
        if isinstance(last, int):
            if last % heads:
                raise ModelError(f"node {node}: {last} does not split into {heads} heads")
            sizes[i] = last // heads
    width: Dim = unknown_dim(node, 2)
    if isinstance(sizes[1], int):
        width = queries * sizes[1]
    y = (*q.shape[:2], width)
    return (TensorType(q.dtype, y), TensorType(state, (q.shape[0], heads, *sizes)))


def _apart(x: Array, heads: int) -> Array:
    """(batch, steps, heads * size) as (steps, batch, heads, size)."""
    return wide(x).reshape(*x.shape[:2], heads, -1).swapaxes(0, 1)


def _gates(node: Node, inputs: Sequence[Array | None], heads: int) -> tuple[Array, Array | None]:
    """For each step what the state is multiplied by, and the step size of the delta rule."""
    rule = text(node, "update_rule", "gated_delta", choices=_RULES)
    decay, beta = optional(inputs, 4), optional(inputs, 5)
    if (decay is not None) != rule.startswith("gated") or (beta is not None) != ("delta" in rule):
        raise ModelError(f"node {node}: its decay and beta do not fit update_rule {rule!r}")
    steps = required(node, inputs, 0).shape[1]
    kept = np.ones((steps, 1, 1, 1)) if decay is None else np.exp(_apart(decay, heads))
    return kept, None if beta is None else _apart(beta, beta.shape[-1])


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    given, past = required(node, inputs, 0), optional(inputs, 3)
    queries, heads = _heads(node)
    q, k, v = (_apart(required(node, inputs, i), queries if i == 0 else heads) for i in range(3))
    kept, beta = _gates(node, inputs, heads)
    state = np.zeros((*k.shape[1:], v.shape[-1])) if past is None else wide(past)
    scale = number(node, "scale", 0.0) or 1 / math.sqrt(q.shape[-1])
    rows = []
    for step in range(len(q)):
        state = state * kept[step][..., None]
        new = v[step]
        if beta is not None:
            new = beta[step] * (new - np.einsum("bhkv,bhk->bhv", state, k[step]))
        state = state + k[step][..., :, None] * new[..., None, :]
        read = np.repeat(state, queries // heads, axis=1)
        rows.append(scale * np.einsum("bhk,bhkv->bhv", q[step], read))
    y = np.stack(rows, axis=1).reshape(*given.shape[:2], -1)
    return rounded(y, dtype_of(given)), rounded(state, dtype_of(given if past is None else past))


def _lower(lowering: Lowering) -> None:
    queries, heads = _heads(lowering.node)
    lower_steps(lowering, queries, heads, number(lowering.node, "scale", 0.0))


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    """Each step writes the memory once and each query head reads it: two an element."""
    queries, heads = _heads(node)
    steps = (outputs[0].shape or (0, 0))[1]
    each = numel(outputs[1].shape) // heads
    return 2 * each * (queries + heads) * (steps if isinstance(steps, int) else 0)


register(
    "LinearAttention",
    Operator(since=27, infer=_infer, reference=_reference, lower=_lower, flops=_flops),
)
