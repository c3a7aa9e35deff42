"""Strided copies: how transposes, slices, concatenations and their like are lowered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rekindle.graph.ir import Value
from rekindle.graph.lowering import Lowering


@dataclass(frozen=True)
class Walk:
    """A walk over a tensor's memory: where it starts and its step along each axis, in elements."""

    strides: tuple[int, ...]
    offset: int = 0


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a row-major tensor, in elements."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def copy(
    lowering: Lowering, x: Value, out: Value, shape: Sequence[int], source: Walk, target: Walk
) -> None:
    """The logical `copy`, with axes of size 1 dropped and axes that lie together merged."""
    kept: list[tuple[int, int, int]] = []
    for size, step_in, step_out in zip(shape, source.strides, target.strides, strict=True):
        if size == 1:
            continue
        if kept:
            outer, outer_in, outer_out = kept[-1]
            if outer_in == size * step_in and outer_out == size * step_out:
                kept[-1] = (outer * size, step_in, step_out)
                continue
        kept.append((size, step_in, step_out))
    kept = kept or [(1, 1, 1)]
    lowering.call(
        "copy",
        (x,),
        out,
        shape=tuple(k[0] for k in kept),
        in_strides=tuple(k[1] for k in kept),
        out_strides=tuple(k[2] for k in kept),
        in_offset=source.offset,
        out_offset=target.offset,
    )
