"""Attention, MultiHeadAttention and RotaryEmbedding as ONNX Runtime's transformer fusions write
them: by ONNX's own Attention.

A mask adds `mask_filter_value` where it hides a key, so that a query which may attend to nothing
attends to everything alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rekindle._errors import ModelError
from rekindle.graph.expr import Arg
from rekindle.graph.ir import OWN_DOMAIN
from rekindle.graph.ops import register
from rekindle.graph.ops._attributes import flag, integer, integers, number
from rekindle.graph.ops._composite import Body, composite

NAMES = (
    "com.microsoft::Attention", "com.microsoft::MultiHeadAttention",
    "com.microsoft::RotaryEmbedding",
)  # fmt: skip

_FILTER = -10000.0


def _heads(body: Body) -> int:
    count = integer(body.node, "num_heads")
    if count < 1:
        raise ModelError(f"node {body.node}: num_heads is {count}")
    return count


def _hidden(body: Body, mask: str, keys: int, like: str) -> str:
    """What a mask of 0 and 1, or the number of keys of each row, adds to the scores."""
    rank = body.rank(mask)
    if rank == 1:
        (rows,) = body.sizes(mask)
        lengths = body.call("Reshape", mask, body.integers(-1, 1, 1, 1))
        if rows != body.sizes(like)[0]:
            raise ModelError(f"node {body.node}: a mask of shape [{rows}] is not known")
        places = body.constant(np.arange(keys))
        seen = body.call("Less", body.call("Cast", places, to=6), lengths)
    elif rank in (2, 3):
        rows, *rest = body.sizes(mask)
        axes = (rows, 1, *(1,) * (3 - rank), *rest)
        seen = body.call("Cast", body.call("Reshape", mask, body.integers(*axes)), to=9)
    else:
        raise ModelError(f"node {body.node}: a mask of rank {rank}; 1, 2 and 3 are known")
    hides = number(body.node, "mask_filter_value", _FILTER)
    return body.call("Where", seen, body.number(0.0, like), body.number(hides, like))


def _attend(
    body: Body, q: str, k: str, v: str, past: tuple[str, str], masks: tuple[str, str]
) -> tuple[str, ...]:
    """ONNX's Attention of (mask of keys, bias of scores); y, keys and values, and the scores."""
    heads, (mask, bias) = _heads(body), masks
    keys = body.sizes(k)[-2] + (body.sizes(past[0])[2] if past[0] else 0)
    added = _hidden(body, mask, keys, q) if mask else ""
    if bias:
        added = body.call("Add", added, bias) if added else bias
    scale = number(body.node, "scale", 0.0)
    attrs: dict[str, Any] = {"scale": scale} if scale else {}
    return body.calls(
        "Attention", q, k, v, added, *past, outputs=4, q_num_heads=heads, kv_num_heads=heads,
        is_causal=int(flag(body.node, "unidirectional")), qk_matmul_output_mode=3, **attrs,
    )  # fmt: skip


def _attention(body: Body) -> tuple[str, ...]:
    """Of one input and the merged weights of queries, keys and values."""
    if flag(body.node, "do_rotary") or flag(body.node, "past_present_share_buffer"):
        raise ModelError(f"node {body.node}: rotary positions and shared caches are not known here")
    x, weights = body.input(0), body.input(1)
    total = body.sizes(weights)[1]
    sizes = integers(body.node, "qkv_hidden_sizes") or (total // 3,) * 3
    operands = (x, weights, body.input(2)) if body.has(2) else (x, weights)
    merged = body.call(
        "MatMul", *operands, domain=OWN_DOMAIN, transpose_a=False, transpose_b=False,
        epilogue=Arg(0) + Arg(1) if body.has(2) else None,
    )  # fmt: skip
    q, k, v = body.calls("Split", merged, body.integers(*sizes), outputs=3, axis=2)
    past = ("", "")
    if body.has(4):
        zero, one = (body.constant(np.asarray(i)) for i in range(2))
        past = (
            body.call("Gather", body.input(4), zero, axis=0),
            body.call("Gather", body.input(4), one, axis=0),
        )
    y, keys, values, _ = _attend(body, q, k, v, past, (body.optional(3), body.optional(5)))
    present = ""
    if body.wants(1):
        rows = [body.call("Unsqueeze", x, body.integers(0)) for x in (keys, values)]
        present = body.call("Concat", *rows, axis=0)
    return (y, present)


def _picked(body: Body, packed: str, index: int) -> str:
    """(batch, steps, heads * size) of values packed as (batch, steps, heads, which, size)."""
    part = body.call("Gather", packed, body.constant(np.asarray(index)), axis=3)
    batch, steps, heads, size = body.sizes(part)
    return body.call("Reshape", part, body.integers(batch, steps, heads * size))


def _operands(body: Body) -> tuple[str, str, str]:
    """Queries, keys and values, however they are packed."""
    q = body.input(0)
    if body.rank(q) == 5:
        return _picked(body, q, 0), _picked(body, q, 1), _picked(body, q, 2)
    k = body.input(1)
    if body.rank(k) == 5:
        return q, _picked(body, k, 0), _picked(body, k, 1)
    return q, k, body.input(2)


def _multi_head(body: Body) -> tuple[str, ...]:
    if body.has(8) or body.has(9):
        raise ModelError(f"node {body.node}: shared and indirect caches are not known")
    q, k, v = _operands(body)
    if body.has(3):
        own = body.rank(k) == 3
        sizes = [body.sizes(x)[2] if own or x == q else 0 for x in (q, k, v)]
        if not own:
            sizes[1:] = [s[1] * s[3] for s in map(body.sizes, (k, v))]
        biases = body.calls("Split", body.input(3), body.integers(*sizes), outputs=3, axis=0)
        q = body.call("Add", q, biases[0])
        if own:
            k, v = body.call("Add", k, biases[1]), body.call("Add", v, biases[2])
    past = (body.optional(6), body.optional(7))
    return _attend(body, q, k, v, past, (body.optional(4), body.optional(5)))


def _rotary(body: Body) -> tuple[str, ...]:
    """ONNX's own takes a row of positions for each batch row; here one may stand for a start."""
    if flag(body.node, "is_packed_batching") or number(body.node, "scale", 1.0) != 1.0:
        raise ModelError(f"node {body.node}: packed batches and a scale are not known")
    x, positions, cos = body.input(0), body.input(1), body.input(2)
    shape = body.sizes(x)
    turned = integer(body.node, "rotary_embedding_dim", 0)
    heads = integer(body.node, "num_heads", 0)
    if len(shape) == 3 and not heads:
        heads = shape[2] // (2 * body.sizes(cos)[1])
    batch, steps = shape[0], shape[2] if len(shape) == 4 else shape[1]
    if body.sizes(positions) != (batch, steps):
        offsets = body.constant(np.arange(steps))
        row = body.call("Add", offsets, positions)
        positions = body.call("Expand", row, body.integers(batch, steps))
    y = body.call(
        "RotaryEmbedding", x, cos, body.input(3), positions, num_heads=heads,
        rotary_embedding_dim=turned, interleaved=int(flag(body.node, "interleaved")),
    )  # fmt: skip
    return (y,)


register("com.microsoft::Attention", composite(_attention))
register("com.microsoft::MultiHeadAttention", composite(_multi_head))
register("com.microsoft::RotaryEmbedding", composite(_rotary))
