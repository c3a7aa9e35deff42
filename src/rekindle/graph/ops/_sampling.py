"""Reading tensors between their elements: what GridSample and DeformConv share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rekindle.graph.ir import Array

_CUBIC = -0.75
"""Keys 1981 "Cubic Convolution Interpolation", with the coefficient that PyTorch uses."""


@dataclass(frozen=True)
class Sampling:
    """How to read between elements and past the ends."""

    order: Literal["nearest", "linear", "cubic"]
    padding: Literal["zeros", "border", "reflection"]
    corners: bool
    """Whether the ends are the outermost elements' middles, or their outer edges."""

    def ends(self, size: int) -> tuple[float, float]:
        return (0.0, size - 1.0) if self.corners else (-0.5, size - 0.5)


def sample(x: Array, positions: Array, how: Sampling) -> Array:
    """`x` (N, C, *S) at `positions` (N, *O, rank) in elements: (N, C, *O), in float64."""
    rank, last = positions.shape[-1], np.moveaxis(x.astype(np.float64), 1, -1)
    batch = np.arange(len(x)).reshape(-1, *(1,) * (positions.ndim - 2))
    axes = [_taps(positions[..., i], x.shape[2 + i], how) for i in range(rank)]
    total = np.zeros((*positions.shape[:-1], x.shape[1]))
    for taps in itertools.product(*axes):
        weight = np.ones(positions.shape[:-1])
        for _, factor in taps:
            weight = weight * factor
        total += last[(batch, *(index for index, _ in taps))] * weight[..., None]
    return np.moveaxis(total, -1, 1)


def _taps(position: Array, size: int, how: Sampling) -> Sequence[tuple[Array, Array]]:
    """Along one axis: the elements read for each position, and their weights."""
    at = np.rint(position) if how.order == "nearest" else position
    low, high = how.ends(size)
    outside = (at < low) | (at > high)
    if how.padding == "border" and how.order != "cubic":
        at = np.where(outside, np.clip(at, 0, size - 1), at)
    elif how.padding == "reflection":
        at = np.where(outside, _reflected(at, low, high), at)
    base = np.floor(at)
    shifts, weights = WEIGHTS[how.order]
    found = []
    for shift, weight in zip(shifts, weights, strict=True):
        index = base + shift
        inside = (index >= 0) & (index < size)
        if how.padding == "reflection":
            index = np.where(inside, index, np.trunc(_reflected(index, low, high)))
        kept = inside | (how.padding != "zeros")
        whole = np.clip(np.nan_to_num(index), 0, size - 1).astype(np.int64)
        found.append((whole, np.where(kept, weight(at - base), 0.0)))
    return found


def _reflected(x: Array, low: float, high: float) -> Array:
    """Folded back at both ends until inside."""
    span = high - low
    if span <= 0:
        return np.full_like(x, low)
    away = np.where(x < low, low - x, x - high)
    turns = np.trunc(away / span)
    rest = away - turns * span
    even = turns % 2 == 0
    below = np.where(even, low + rest, high - rest)
    above = np.where(even, high - rest, low + rest)
    return np.where(x < low, below, np.where(x > high, above, x))


def _near(t: Any) -> Any:
    """Weight of an element less than one away."""
    return (t * (_CUBIC + 2) - (_CUBIC + 3)) * t * t + 1.0


def _far(t: Any) -> Any:
    """Weight of an element one to two away."""
    return ((t * _CUBIC - 5 * _CUBIC) * t + 8 * _CUBIC) * t - 4 * _CUBIC


WEIGHTS: dict[str, tuple[tuple[int, ...], tuple[Callable[[Any], Any], ...]]] = {
    "nearest": ((0,), (lambda t: t * 0.0 + 1.0,)),
    "linear": ((0, 1), (lambda t: 1.0 - t, lambda t: t)),
    "cubic": (
        (-1, 0, 1, 2),
        (lambda t: _far(t + 1.0), _near, lambda t: _near(1.0 - t), lambda t: _far(2.0 - t)),
    ),
}
"""Elements from the one at or before a position, and their weights by how far it is past it: of
arrays, and of expressions."""
