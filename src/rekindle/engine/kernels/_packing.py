"""Constants in the order kernels want them."""

from __future__ import annotations

from functools import partial

import numpy as np

from rekindle.engine.kernels import Packed
from rekindle.engine.kernels._conv import Problem
from rekindle.engine.kernels._weights import Weights
from rekindle.graph.ir import Array, Value

_FLOAT = 4


def zeros(count: int) -> Packed:
    """`count` floats, or ints, of zero: what taps in the padding read."""
    return Packed(f"zeros:{count}", count * _FLOAT, partial(np.zeros, count, np.float32))


def padded_vector(value: Value | None, array: Array | None, count: int) -> Packed:
    """A vector of `count` floats that begins with `array` (zeros where there is none)."""
    if value is None or array is None:
        return zeros(count)

    def pack() -> Array:
        out = np.zeros(count, np.float32)
        out[: array.size] = array.reshape(-1)
        return out

    return Packed(f"padded{count}:{value.name}", count * _FLOAT, pack)


def conv_panels(
    problem: Problem, c_block: int, m_block: int, *, taps_first: bool = False
) -> Packed:
    """Weights (M, C, KH, KW) as (M / m_block, C / c_block, KH, KW, c_block, m_block), padded.

    With `taps_first` as (M / m_block, KH, KW, C / c_block, c_block, m_block). Where groups are
    merged, a filter has the channels of all of them, zero but for its own group's.
    """
    weights, merged = problem.weights, problem.merged
    m, own, kh, kw = weights.array.shape
    m_blocks, c_blocks = -(-m // m_block), -(-problem.c_group // c_block)
    order = (0, 4, 5, 2, 3, 1) if taps_first else (0, 2, 4, 5, 3, 1)

    def arrange() -> Array:
        shape = (m_blocks * m_block, c_blocks * c_block, kh, kw)
        if weights.array.shape == shape:
            blocks = weights.array.reshape(m_blocks, m_block, c_blocks, c_block, kh, kw)
            return blocks.transpose(order)
        full = weights.zeros(shape)
        place = np.arange(m) // (problem.m_group // merged) % merged
        for i in range(merged):
            full[:m][place == i, i * own : (i + 1) * own] = weights.array[place == i]
        split = full.reshape(m_blocks, m_block, c_blocks, c_block, kh, kw)
        return split.transpose(order)

    kind = f"conv{'_taps' if taps_first else ''}{c_block}x{m_block}x{merged}"
    count = m_blocks * m_block * c_blocks * c_block * kh * kw
    return weights.packed(kind, count, arrange)


def conv_scales(problem: Problem, m_block: int) -> Packed:
    """Scales of groups of channels (M, groups, KH, KW) as (M / m_block, groups, KH, KW, m_block).

    The last group is whole blocks of channels long, as the panels are.
    """
    decode = problem.weights.decode
    assert decode is not None
    m, _, kh, kw = problem.weights.array.shape
    m_blocks, groups = -(-m // m_block), decode.scale.shape[1]

    def pack() -> Array:
        full = np.ones((m_blocks * m_block, groups, kh, kw), np.float32)
        full[:m] = decode.scale
        return full.reshape(m_blocks, m_block, groups, kh, kw).transpose(0, 2, 3, 4, 1)

    count = m_blocks * m_block * groups * kh * kw
    return Packed(f"group_scales{m_block}:{problem.w.name}", count * _FLOAT, pack)


def depthwise_taps(weights: Weights, block: int) -> Packed:
    """Weights (C, 1, KH, KW), widened, as (C / block, KH, KW, block), padded."""
    w = weights.array
    c, _, kh, kw = w.shape
    blocks = -(-c // block)

    def arrange() -> Array:
        full = np.zeros((blocks * block, kh, kw), np.float32)
        full[:c] = w[:, 0]
        return full.reshape(blocks, block, kh, kw).transpose(0, 2, 3, 1)

    return weights.packed(f"depthwise{block}", blocks * block * kh * kw, arrange)
