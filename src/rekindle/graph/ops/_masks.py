"""What Attention adds to its scores: given masks, causality, windows, padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rekindle.graph.ir import Array, Node
from rekindle.graph.ops._attributes import flag, integer
from rekindle.graph.ops._elementwise import wide
from rekindle.graph.ops._shapes import optional


@dataclass(frozen=True)
class Extent:
    """Queries and keys of one attention, and how many keys came before the first query."""

    queries: int
    keys: int
    before: Array
    """One number, or one a batch row."""


def extent(inputs: Sequence[Array | None], queries: int, keys: int) -> Extent:
    past, lengths = optional(inputs, 4), optional(inputs, 6)
    if past is not None:
        return Extent(queries, keys, np.asarray(past.shape[2]))
    if lengths is not None:
        return Extent(queries, keys, lengths.reshape(-1, 1, 1, 1) - queries)
    return Extent(queries, keys, np.asarray(0))


def bias(node: Node, inputs: Sequence[Array | None], shape: Extent) -> Array:
    """Added to the scores (batch, heads, queries, keys): 0 or minus infinity, or as given."""
    allowed = np.ones((1, 1, shape.queries, shape.keys), bool)
    distance = shape.before + np.arange(shape.queries)[:, None] - np.arange(shape.keys)
    left, right = integer(node, "left_window_size", -1), integer(node, "right_window_size", -1)
    if flag(node, "is_causal"):
        allowed = allowed & (distance >= 0)
    if left >= 0:
        allowed = allowed & (distance <= left)
    if right >= 0:
        allowed = allowed & (-distance <= right)
    lengths = optional(inputs, 6)
    if lengths is not None:
        allowed = allowed & (np.arange(shape.keys) < lengths.reshape(-1, 1, 1, 1))
    total = np.where(allowed, 0.0, -np.inf)
    mask = optional(inputs, 3)
    return total if mask is None else np.asarray(total + _given(mask, shape.keys))


def _given(mask: Array, keys: int) -> Array:
    """A mask that ends early hides the keys past its end."""
    added = np.where(mask, 0.0, -np.inf) if mask.dtype.kind == "b" else wide(mask)
    missing = [(0, 0)] * (mask.ndim - 1) + [(0, keys - mask.shape[-1])]
    return np.pad(added, missing, constant_values=-np.inf)
