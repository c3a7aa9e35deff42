"""Axes of an operator: an attribute in early opsets, an input in later ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rekindle._types import Dim, Shape
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand
from rekindle.graph.ops._attributes import flag, integers
from rekindle.graph.ops._shapes import (
    length,
    normalize_axes,
    optional,
    unknown_shape,
    whole_numbers,
)


@dataclass(frozen=True)
class AxesSource:
    """Where a version of an operator has its axes: attribute `axes`, or input number `index`."""

    index: int | None = None

    def attribute_or(self, node: Node, given: Array | None) -> tuple[int, ...] | None:
        """The axes as the node gives them; None where it gives none."""
        return integers(node, "axes") if self.index is None else whole_numbers(node, given)

    def from_arrays(self, node: Node, inputs: Sequence[Array | None]) -> tuple[int, ...] | None:
        given = None if self.index is None else optional(inputs, self.index)
        return self.attribute_or(node, given)

    def operand(self, inputs: Sequence[Operand | None]) -> Operand | None:
        return None if self.index is None else optional(inputs, self.index)

    def from_lowering(self, lowering: Lowering) -> tuple[int, ...] | None:
        if self.index is None:
            return self.attribute_or(lowering.node, None)
        given = lowering.constant(self.index)
        if given is None and lowering.has_input(self.index):
            raise NotLowered("its axes are computed at run time")
        return self.attribute_or(lowering.node, given)


def reduced_axes(node: Node, axes: tuple[int, ...] | None, rank: int) -> tuple[int, ...]:
    """Sorted axes of a reduction; no axes mean all, or none with `noop_with_empty_axes`."""
    if not axes:
        return () if flag(node, "noop_with_empty_axes") else tuple(range(rank))
    return normalize_axes(node, axes, rank)


def reduced_shape(shape: Sequence[Dim], axes: Sequence[int], keepdims: bool) -> Shape:
    if keepdims:
        return tuple(1 if i in axes else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in axes)


def reduced_unknown(node: Node, rank: int, axes: Operand, keepdims: bool) -> Shape | None:
    """The output's shape where the axes are computed at run time."""
    if keepdims:
        return unknown_shape(node, rank)
    count = length(axes)
    return unknown_shape(node, rank - count) if count and count <= rank else None


def first_extreme(x: Array, axis: int, better: np.ufunc) -> Array:
    """Where along `axis` each extreme lies, int64; `better` says when to move on.

    Zero where there is nothing to search.
    """
    found = np.zeros(np.delete(x.shape, axis), np.int64)
    if not found.size:
        return found
    best = x.take(0, axis)
    for index in range(1, x.shape[axis]):
        value = x.take(index, axis)
        moves = better(value, best)
        best, found = np.where(moves, value, best), np.where(moves, index, found)
    return np.asarray(found, np.int64)
