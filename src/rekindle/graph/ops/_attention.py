"""Attention on the device: two products around a softmax, heads that share keys side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.expr import Arg, Cast, Expr, call, where
from rekindle.graph.ir import Node, Value
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops._attributes import flag, integer, number
from rekindle.graph.ops._copies import Walk, copy, row_major

SCORES, SOFTCAPPED, BIASED, PROBABILITIES = range(4)
"""What the fourth output holds, by `qk_matmul_output_mode`."""

Shape4 = tuple[int, int, int, int]


def heads(node: Node, key: str) -> int:
    """How many heads lie side by side in inputs with three axes."""
    count = integer(node, key, 0)
    if count < 1:
        raise ModelError(f"node {node}: inputs with three axes need {key}")
    return count


def lower(lowering: Lowering) -> None:
    """Arithmetic in float32 between the inputs and outputs, whatever these are stored in."""
    node, out = lowering.node, lowering.output
    working = DType.FLOAT64 if out.dtype is DType.FLOAT64 else DType.FLOAT32
    q, q_shape = _apart(lowering, lowering.input(0), "q_num_heads")
    k, k_shape = _present(lowering, 1, 4)
    v, v_shape = _present(lowering, 2, 5)
    batch, count, queries, size = q_shape
    shared, keys = k_shape[1], k_shape[2]
    grouped = (batch, shared, count // shared * queries)
    q, k, v = (_cast(lowering, x, working) for x in (q, k, v))
    scale = number(node, "scale", 0.0) or 1 / math.sqrt(size)
    products = lowering.call(
        "matmul",
        (lowering.view(q, (*grouped, size)), k),
        lowering.temporary((*grouped, keys), working),
        transpose_a=False,
        transpose_b=True,
        epilogue=Arg(0) * scale,
    )
    scores = lowering.view(products, (batch, count, queries, keys))
    probabilities = _probabilities(lowering, scores)
    mixed = lowering.call(
        "matmul",
        (lowering.view(probabilities, (*grouped, keys)), v),
        lowering.temporary((*grouped, v_shape[3]), working),
        transpose_a=False,
        transpose_b=False,
        epilogue=None,
    )
    y = _cast(lowering, lowering.view(mixed, (batch, count, queries, v_shape[3])), out.dtype)
    if len(out.static_shape) == 4:
        lowering.call("view", (y,), out)
    else:
        _swap_middle(lowering, y, out)


def _cast(lowering: Lowering, x: Value, to: DType) -> Value:
    if x.dtype is to:
        return x
    result = lowering.temporary(x.static_shape, to)
    return lowering.call("elementwise", (x,), result, expr=Cast(to, Arg(0)))


def _swap_middle(lowering: Lowering, x: Value, out: Value) -> None:
    """(a, b, c, d) into the memory of `out` as (a, c, b, d)."""
    a, b, c, d = x.static_shape
    steps = row_major(x.static_shape)
    source = Walk((steps[0], steps[2], steps[1], steps[3]))
    copy(lowering, x, out, (a, c, b, d), source, Walk(row_major((a, c, b, d))))


def _apart(lowering: Lowering, x: Value, key: str) -> tuple[Value, Shape4]:
    """The value as (batch, heads, sequence, size)."""
    shape = x.static_shape
    if len(shape) == 3:
        count = heads(lowering.node, key)
        split = (shape[0], shape[1], count, shape[2] // count)
        turned = (split[0], split[2], split[1], split[3])
        result = lowering.temporary(turned, x.dtype)
        _swap_middle(lowering, lowering.view(x, split), result)
        return result, turned
    a, b, c, d = shape
    return x, (a, b, c, d)


def _present(lowering: Lowering, index: int, past: int) -> tuple[Value, Shape4]:
    """Keys or values with those of the cache before them, which is an output where it is named."""
    x, shape = _apart(lowering, lowering.input(index), "kv_num_heads")
    outputs = lowering.outputs()
    named = outputs[index] if index < len(outputs) else None
    if not lowering.has_input(past):
        if named is not None:
            lowering.call("elementwise", (x,), named, expr=Arg(0))
        return x, shape
    before = lowering.input(past)
    batch, count, new, size = shape
    old = before.static_shape[2]
    whole: Shape4 = (batch, count, old + new, size)
    result = named if named is not None else lowering.temporary(whole, x.dtype)
    steps = row_major(whole)
    for part, start in ((before, 0), (x, old)):
        sizes = part.static_shape
        target = Walk(steps, start * size)
        copy(lowering, part, result, sizes, Walk(row_major(sizes)), target)
    return result, whole


def _probabilities(lowering: Lowering, scores: Value) -> Value:
    node, working, shape = lowering.node, scores.dtype, scores.static_shape
    mode, shown = integer(node, "qk_matmul_output_mode", SCORES), scores
    cap = number(node, "softcap", 0.0)
    if cap > 0:
        capped = call("tanh", Arg(0) * (1 / cap)) * cap
        result = lowering.temporary(shape, working)
        scores = lowering.call("elementwise", (scores,), result, expr=capped)
    if mode == SOFTCAPPED:
        shown = scores
    masked = _masked(lowering, scores)
    if mode == BIASED:
        shown = masked
    result = lowering.temporary(shape, working)
    found = lowering.call("softmax", (masked,), result, axis=3, log=False)
    if masked is not scores:
        highest = lowering.temporary((*shape[:3], 1), working)
        lowering.call("reduce", (masked,), highest, kind="max", axes=(3,))
        kept = where(call("eq", Arg(1), -math.inf), 0.0, Arg(0))
        result = lowering.temporary(shape, working)
        found = lowering.call("elementwise", (found, highest), result, expr=kept)
    if mode == PROBABILITIES:
        shown = found
    outputs = lowering.outputs()
    asked = outputs[3] if len(outputs) > 3 else None
    if asked is not None:
        expr: Expr = Arg(0) if asked.dtype is working else Cast(asked.dtype, Arg(0))
        lowering.call("elementwise", (shown,), asked, expr=expr)
    return found


def _masked(lowering: Lowering, scores: Value) -> Value:
    """The scores, minus infinity where a query may not attend; themselves where it always may."""
    keys = scores.static_shape[3]
    values: list[Value] = [scores]
    y: Expr = Arg(0)
    if lowering.has_input(3):
        mask = _whole(lowering, lowering.input(3), keys)
        values.append(mask)
        if mask.dtype is DType.BOOL:
            y = where(Arg(1), y, -math.inf)
        else:
            y = y + (Arg(1) if mask.dtype is scores.dtype else Cast(scores.dtype, Arg(1)))
    for condition in _conditions(lowering, scores.static_shape, values):
        y = where(condition, y, -math.inf)
    if len(values) == 1:
        return scores
    result = lowering.temporary(scores.static_shape, scores.dtype)
    return lowering.call("elementwise", values, result, expr=y)


def _whole(lowering: Lowering, mask: Value, keys: int) -> Value:
    """A mask that ends before the keys do hides those past its end."""
    *rows, given = mask.static_shape
    if given == keys:
        return mask
    whole = lowering.temporary((*rows, keys), mask.dtype)
    lowering.call("fill", (), whole, value=0 if mask.dtype is DType.BOOL else -math.inf)
    source, target = Walk(row_major(mask.static_shape)), Walk(row_major(whole.static_shape))
    copy(lowering, mask, whole, mask.static_shape, source, target)
    return whole


def _conditions(lowering: Lowering, shape: Sequence[int], values: list[Value]) -> list[Expr]:
    """What must hold of a key for a query to attend to it; operands are added to `values`."""
    node, (queries, keys) = lowering.node, shape[2:]
    left, right = integer(node, "left_window_size", -1), integer(node, "right_window_size", -1)
    causal, padded = flag(node, "is_causal"), lowering.has_input(6)
    if not (causal or padded or left >= 0 or right >= 0):
        return []

    def operand(value: Value) -> Expr:
        values.append(value)
        return Arg(len(values) - 1)

    key = operand(lowering.literal(np.arange(keys)))
    row = operand(lowering.literal(np.arange(queries)[:, None]))
    found: list[Expr] = []
    before: Expr | int = 0
    if padded:
        lengths = lowering.view(lowering.input(6), (shape[0], 1, 1, 1))
        length = operand(lengths)
        found.append(key < length)
        before = length - queries
    if lowering.has_input(4):
        before = lowering.input(4).static_shape[2]
    distance = row + before - key
    if causal:
        found.append(distance >= 0)
    if left >= 0:
        found.append(distance <= left)
    if right >= 0:
        found.append(distance >= -right)
    return found
