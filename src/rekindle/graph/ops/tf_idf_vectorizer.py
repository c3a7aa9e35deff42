"""TfIdfVectorizer: how often given n-grams occur, weighted; on the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType, Shape
from rekindle.graph.ir import Array, Node
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer, integers, text
from rekindle.graph.ops._shapes import required

Gram = tuple[object, ...]


def _grams(node: Node) -> dict[Gram, int]:
    """Each n-gram of the pool and the output position that counts it."""
    pool = tuple(node.attr("pool_int64s") or node.attr("pool_strings") or ())
    starts, places = integers(node, "ngram_counts") or (), integers(node, "ngram_indexes") or ()
    listed: list[Gram] = []
    for length, start in enumerate(starts, 1):
        end = starts[length] if length < len(starts) else len(pool)
        listed += [pool[i : i + length] for i in range(start, end, length)]
    if len(listed) != len(places):
        raise ModelError(f"node {node}: {len(listed)} n-grams, but {len(places)} ngram_indexes")
    return dict(zip(listed, places, strict=True))


def _size(node: Node) -> int:
    return max(integers(node, "ngram_indexes") or (-1,)) + 1


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    shape: Shape | None = None
    if x.shape is not None:
        if len(x.shape) > 2:
            raise ModelError(
                f"node {node}: an input of shape {list(x.shape)}, expected 1 or 2 axes"
            )
        shape = (*x.shape[:-1], _size(node))
    return (TensorType(DType.FLOAT32, shape),)


def _counts(node: Node, row: Sequence[object], grams: dict[Gram, int]) -> Array:
    """Occurrences, also with up to `max_skip_count` items left out between neighbours."""
    counts = np.zeros(_size(node))
    shortest, longest = integer(node, "min_gram_length"), integer(node, "max_gram_length")
    for length in range(shortest, longest + 1):
        skips = 1 if length == 1 else integer(node, "max_skip_count") + 1
        for step in range(1, skips + 1):
            for start in range(len(row) - step * (length - 1)):
                place = grams.get(tuple(row[start : start + step * (length - 1) + 1 : step]))
                if place is not None:
                    counts[place] += 1
    return counts


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, grams = required(node, inputs, 0), _grams(node)
    rows = [_counts(node, row, grams) for row in np.atleast_2d(x).tolist()]
    counts = np.stack(rows).reshape(*x.shape[:-1], -1)
    mode = text(node, "mode", "TF", choices=("TF", "IDF", "TFIDF"))
    weights = np.ones(_size(node))
    if mode != "TF" and node.attr("weights"):
        places = list(grams.values())
        weights[places] = np.array(node.attr("weights"))[: len(places)]
    values = np.sign(counts) if mode == "IDF" else counts
    return ((values * weights).astype(np.float32),)


register("TfIdfVectorizer", Operator(since=9, infer=_infer, reference=_reference))
