"""Which register tile a CPU kernel takes: P positions x Q blocks of 16 channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rekindle._types import Target
from rekindle.engine.kernels import Variant

BLOCK = 16
_JOBS_PER_UNIT = 32
"""Enough to even out two workers, few enough that a job's start (about 20 ns) does not count."""
_TALLEST = 12
"""Positions of a tile. Of that many pointers the scalar registers hold most."""
_WIDTHS = (8, 4, 2, 1)
JOBS = (_JOBS_PER_UNIT, 8, 2, 128)
TUNABLES = {"P": range(1, _TALLEST + 1), "Q": _WIDTHS, "JOBS": JOBS}
"""Of kernels with a register tile: positions, blocks of 16 channels, jobs for each unit."""
_TILES_CUT_ANEW = 6
"""Of so many of the best tiles other numbers of jobs are worth trying."""


@dataclass(frozen=True)
class Tile:
    """A tile, and the `jobs` of `tiles_per_job` tiles that one (Q blocks, image) is cut into."""

    positions: int
    blocks: int
    tiles_per_job: int
    jobs: int


def vector_width(target: Target) -> int:
    """Floats in the vectors a kernel is written with: a register's, 8 at least."""
    return 16 if target.wavefront >= 16 else 8


def jobs_wanted(target: Target, columns: int, per_unit: int = _JOBS_PER_UNIT) -> int:
    """Into how many jobs each of `columns` independent columns of work should be cut."""
    return max(1, -(-per_unit * target.compute_units // columns))


def choose_tile(
    target: Target,
    positions: int,
    blocks: int,
    copies: int,
    *,
    ragged: bool = False,
    width: int | None = None,
    wanted: Variant = (),
) -> Tile:
    """The tile `wanted`, or else the one with the fewest cycles by a model of the inner loop.

    `copies` is how often a problem of `positions` x `blocks` comes: images times groups. Q
    divides `blocks`, unless they may be `ragged`. `width`: floats of a vector,
    the target's by default.

    Per input channel a tile of P x Q blocks takes R = 16 Q / width vectors of weights, P scalars
    and P R multiply-adds, two of each a cycle; below ten multiply-adds their latency shows, and
    the weights come from the second-level cache at 32 bytes a cycle (2 x 128 ran at half speed).
    A tile must fit the registers: measured with AVX2, 7 x 16 and 3 x 32 spill and run at half
    speed, with AVX-512 so do 7 x 64 and 14 x 32.
    """
    size = positions, blocks, copies
    if wanted:
        given = dict(wanted)
        return _cut(target, size, given["P"], given["Q"], given.get("JOBS", _JOBS_PER_UNIT))
    _, p, q = min(_fitting(target, size, ragged, width or vector_width(target)))
    return _cut(target, size, p, q)


def tile_variants(
    target: Target,
    positions: int,
    blocks: int,
    copies: int,
    *,
    ragged: bool = False,
    width: int | None = None,
) -> list[Variant]:
    """Every tile that `choose_tile` weighs, best first; of the best also other cuts into jobs."""
    size = positions, blocks, copies
    fitting = sorted(_fitting(target, size, ragged, width or vector_width(target)))
    pairs = [(p, q) for _, p, q in fitting]
    made: list[Variant] = [_variant(p, q, JOBS[0]) for p, q in pairs]
    for p, q in pairs[:_TILES_CUT_ANEW]:
        cuts = {_cut(target, size, p, q)}
        for jobs in JOBS[1:]:
            if (tile := _cut(target, size, p, q, jobs)) not in cuts:
                cuts.add(tile)
                made.append(_variant(p, q, jobs))
    return made


def _variant(p: int, q: int, jobs: int) -> Variant:
    return ("P", p), ("Q", q), ("JOBS", jobs)


Cost = tuple[float, float]


def _fitting(
    target: Target, size: tuple[int, int, int], ragged: bool, width: int
) -> Iterator[tuple[Cost, int, int]]:
    """(cost, P, Q) of each tile that the registers hold."""
    positions, blocks, copies = size
    registers = 30 if width == 16 else 15
    for q in _WIDTHS:
        vectors = q * BLOCK // width
        if q > blocks or (blocks % q and not ragged):
            continue
        columns = -(-blocks // q) * copies
        for p in range(1, min(positions, _TALLEST) + 1):
            # A lone position uses each weight once, straight from memory.
            weights = vectors if p > 1 else 0
            if p * vectors + weights + 1 > registers:
                break
            tiles = -(-positions // p)
            rounds = -(-tiles * columns // target.compute_units)
            half_cycles = max(p * vectors, p + vectors, 10, vectors * width / 4)
            yield (rounds * half_cycles, 1 / p + 1 / vectors), p, q


def _cut(
    target: Target, size: tuple[int, int, int], p: int, q: int, per_unit: int = _JOBS_PER_UNIT
) -> Tile:
    positions, blocks, copies = size
    tiles, columns = -(-positions // p), -(-blocks // q) * copies
    per_job = -(-tiles // min(jobs_wanted(target, columns, per_unit), tiles))
    return Tile(p, q, per_job, -(-tiles // per_job))
