"""Where resized positions lie in the input, and the weights with which neighbours count.

Every mode of Resize is separable: one weight matrix (output positions by input positions) for
each axis. Formulas: the ONNX specification of Resize, opset 19; the cubic kernel is Keys 1981.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rekindle.graph.ir import Array


@dataclass(frozen=True)
class Axis:
    """One resized axis. `roi`: normalized begin and end, for tf_crop_and_resize."""

    size: int
    resized: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Filter:
    """How positions map and how neighbours are weighed; the names are Resize's attributes."""

    mode: str
    coordinates: str
    nearest: str
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False


def positions(axis: Axis, coordinates: str) -> Array:
    """Input coordinates (float64) of the output positions of one axis."""
    x = np.arange(axis.resized, dtype=np.float64)
    size, resized, scale = axis.size, axis.resized, axis.scale
    half_pixel: Array = (x + 0.5) / scale - 0.5
    match coordinates:
        case "asymmetric":
            return x / scale
        case "align_corners":
            return x * (size - 1) / (resized - 1) if resized > 1 else np.zeros_like(x)
        case "pytorch_half_pixel":
            return half_pixel if resized > 1 else np.zeros_like(x)
        case "tf_half_pixel_for_nn":
            return (x + 0.5) / scale
        case "half_pixel_symmetric":
            return half_pixel + size / 2 * (1 - resized / (scale * size))
        case "tf_crop_and_resize":
            begin, end = axis.roi
            if resized > 1:
                return begin * (size - 1) + x * (end - begin) * (size - 1) / (resized - 1)
            return np.full_like(x, 0.5 * (begin + end) * (size - 1))
        case _:
            return half_pixel


def nearest_index(axis: Axis, how: Filter) -> Array:
    """The input position that each output position of one axis takes."""
    at = positions(axis, how.coordinates)
    match how.nearest:
        case "round_prefer_ceil":
            found = np.floor(at + 0.5)
        case "floor":
            found = np.floor(at)
        case "ceil":
            found = np.ceil(at)
        case "simple":
            found = np.ceil(at) if axis.scale < 1 else np.floor(at)
        case _:
            found = np.ceil(at - 0.5)
    return np.clip(found, 0, axis.size - 1).astype(np.int64)


def weights(axis: Axis, how: Filter) -> Array:
    """(resized, size): how much each input position counts for each output position."""
    matrix = np.zeros((axis.resized, axis.size))
    rows = np.arange(axis.resized)[:, None]
    if how.mode == "nearest":
        matrix[rows[:, 0], nearest_index(axis, how)] = 1
        return matrix
    at = positions(axis, how.coordinates)[:, None]
    stretch = min(axis.scale, 1.0) if how.antialias else 1.0
    first = int(np.floor(-_support(how) / stretch)) + 1
    taps = np.floor(at).astype(np.int64) + np.arange(first, 2 - first)
    shares = _kernel(how, np.abs(taps - at) * stretch)
    if how.exclude_outside:
        shares = np.where((taps >= 0) & (taps < axis.size), shares, 0)
    shares /= shares.sum(axis=1, keepdims=True)
    np.add.at(matrix, (rows, np.clip(taps, 0, axis.size - 1)), shares)
    return matrix


def _support(how: Filter) -> int:
    return 2 if how.mode == "cubic" else 1


def _kernel(how: Filter, distance: Array) -> Array:
    """The weight of a neighbour `distance` pixels away."""
    if how.mode == "linear":
        return np.asarray(np.clip(1 - distance, 0, 1))
    a = how.cubic_a
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))
