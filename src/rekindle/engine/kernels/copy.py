"""`copy`: any affine move of elements (transpose, slice, expand, concat, tile, pad), any dtype.

Loops are ordered as the output lies in memory and merged; runs that are contiguous on both sides
are moved in wider units where alignment allows; a transposition of two long loops goes by tiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rekindle._types import DType, Target
from rekindle.engine.kernels import DECODES, Argument, Context, Kernel, Launch, register
from rekindle.engine.kernels._nest import Nest, index_code, parameters, share
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall

UNITS = {1: "uchar", 2: "ushort", 4: "uint", 8: "uint2", 16: "uint4"}
"""C type that moves so many bytes."""
_TILE = 8
_GPU_TILE = 32
_SHORT_RUN_BYTES = 32
"""On CPUs, only runs this short are widened: LLVM vectorises the longer ones."""


@dataclass(frozen=True)
class Move:
    """Elements of `unit_bytes` from x to y; operand 0 of the nest is x, operand 1 is y."""

    nest: Nest
    x0: int
    y0: int
    unit_bytes: int


def _score(call: LogicalCall, _: Context) -> float:
    (x,) = call.inputs
    assert x is not None
    sized = x.dtype is call.output.dtype and x.dtype is not DType.STRING
    small = max(math.prod(v.layout.physical_shape(v.static_shape)) for v in (x, call.output))
    return float(sized and small < 2**31)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    (x,) = call.inputs
    assert x is not None
    p = call.params
    nest = Nest(tuple(p["shape"]), (tuple(p["in_strides"]), tuple(p["out_strides"])))
    move = Move(nest, p["in_offset"], p["out_offset"], x.dtype.itemsize)
    return copy_launches(x, call.output, move, context.target)


def copy_launches(x: Value, y: Value, move: Move, target: Target) -> Sequence[Launch]:
    """The launch that does `move`; none where it moves nothing."""
    if not move.nest.count:
        return []
    nbytes = 2 * move.nest.count * move.unit_bytes
    move = _widened(_ordered(move), target)
    pair = _transposed_pair(move.nest)
    make = _loops if pair is None else _tiles if target.family == "cpu" else _local_tiles
    return [make(x, y, move, target, pair or (0, 0), nbytes)]


def _ordered(move: Move) -> Move:
    """Loops in the order of the output's memory, merged; at least one."""
    nest = move.nest
    order = sorted(range(len(nest.sizes)), key=lambda d: -abs(nest.strides[1][d]))
    nest = _permuted(nest, order).merged()
    if not nest.sizes:
        nest = Nest((1,), ((1,), (1,)))
    return Move(nest, move.x0, move.y0, move.unit_bytes)


def _permuted(nest: Nest, order: Sequence[int]) -> Nest:
    return Nest(
        tuple(nest.sizes[d] for d in order),
        tuple(tuple(s[d] for d in order) for s in nest.strides),
    )


def _widened(move: Move, target: Target) -> Move:
    """The same move in larger units, while everything is a multiple of two of them."""
    limit = 16
    if target.family == "cpu" and move.nest.sizes[-1] * move.unit_bytes > _SHORT_RUN_BYTES:
        limit = move.unit_bytes
    nest, x0, y0, unit = move.nest, move.x0, move.y0, move.unit_bytes
    while unit < limit and nest.sizes and all(s[-1] == 1 for s in nest.strides):
        others = (x0, y0, nest.sizes[-1], *(v for s in nest.strides for v in s[:-1]))
        if any(v % 2 for v in others):
            break
        halved = tuple((*(v // 2 for v in s[:-1]), 1) for s in nest.strides)
        nest = Nest((*nest.sizes[:-1], nest.sizes[-1] // 2), halved)
        x0, y0, unit = x0 // 2, y0 // 2, unit * 2
    nest = nest.merged()
    return Move(nest if nest.sizes else Nest((1,), ((1,), (1,))), x0, y0, unit)


def _transposed_pair(nest: Nest) -> tuple[int, int] | None:
    """(loop contiguous in x, loop contiguous in y), where both are long enough for tiles."""
    along = [
        [d for d, (n, s) in enumerate(zip(nest.sizes, strides, strict=True)) if s == 1 and n >= 4]
        for strides in nest.strides
    ]
    if not along[0] or not along[1] or along[0][0] == along[1][0]:
        return None
    a, b = along[0][0], along[1][0]
    return (a, b) if nest.sizes[a] * nest.sizes[b] >= _TILE * _TILE else None


def _loops(
    x: Value, y: Value, move: Move, target: Target, _: tuple[int, int], nbytes: int
) -> Launch:
    nest = move.nest
    # A short innermost loop would drown in its bookkeeping: take the longest instead.
    if nest.sizes[-1] < _TILE:
        longest = max(range(len(nest.sizes)), key=nest.sizes.__getitem__)
        order = [d for d in range(len(nest.sizes)) if d != longest]
        nest = _permuted(nest, [*order, longest])
    outer, inner, steps = nest.split()
    offsets = index_code(outer, "row", ("ox", "oy"))
    params, texts = list(offsets.params), []
    integers: list[np.int32] = list(offsets.args)
    for name, step in zip(("x_step", "y_step"), steps, strict=True):
        texts.append(str(step) if step in (0, 1) else name)
        if step not in (0, 1):
            params.append(f"const int {name}")
            integers.append(np.int32(step))
    rows = outer.count
    work = share(target, rows, inner)
    integers += [np.int32(v) for v in (move.x0, move.y0, rows, inner)]
    defines = (
        ("FORM", "0"),
        ("T", UNITS[move.unit_bytes]),
        ("PARAMS", parameters(params)),
        ("OFFSETS", offsets.code),
        ("X_STEP", texts[0]),
        ("Y_STEP", texts[1]),
        ("GROUP", str(work.group)),
    )
    args: tuple[Argument, ...] = (x, *integers, *work.args, y)
    return Launch(
        "copy", "copy", defines, args, work.global_size, work.local_size, bytes_moved=nbytes
    )


def _tiles(
    x: Value, y: Value, move: Move, target: Target, pair: tuple[int, int], nbytes: int
) -> Launch:
    defines, integers, rows, sizes = _transposition(move, pair)
    tiles = rows * -(-sizes[0] // _TILE) * -(-sizes[1] // _TILE)
    work = share(target, tiles, 1, _TILE * _TILE)
    words = str(int(move.unit_bytes == 4))
    return Launch(
        "copy",
        "copy",
        (("FORM", "1"), ("WORDS", words), *defines),
        (x, *integers, np.int32(work.per_item), y),
        work.global_size,
        work.local_size,
        bytes_moved=nbytes,
    )


def _local_tiles(
    x: Value, y: Value, move: Move, _: Target, pair: tuple[int, int], nbytes: int
) -> Launch:
    defines, integers, rows, sizes = _transposition(move, pair)
    a_groups, b_groups = (-(-n // _GPU_TILE) for n in sizes)
    return Launch(
        "copy",
        "copy",
        (("FORM", "2"), *defines),
        (x, *integers, y),
        (a_groups * _GPU_TILE, b_groups * 8, rows),
        (_GPU_TILE, 8, 1),
        bytes_moved=nbytes,
    )


def _transposition(
    move: Move, pair: tuple[int, int]
) -> tuple[tuple[tuple[str, str], ...], list[np.int32], int, tuple[int, int]]:
    """(defines, integers, rows, sizes of both loops) that the two tiled forms share."""
    nest, (a, b) = move.nest, pair
    outer = _permuted(nest, [d for d in range(len(nest.sizes)) if d not in pair])
    offsets = index_code(outer, "row", ("ox", "oy"))
    sizes = nest.sizes[a], nest.sizes[b]
    own = (move.x0, move.y0, outer.count, *sizes, nest.strides[1][a], nest.strides[0][b])
    defines = (
        ("T", UNITS[move.unit_bytes]),
        ("PARAMS", parameters(offsets.params)),
        ("OFFSETS", offsets.code),
    )
    return defines, [*offsets.args, *map(np.int32, own)], outer.count, sizes


register(
    "copy",
    Kernel(call="copy", score=_score, launches=_launches, isa=DECODES),
)
