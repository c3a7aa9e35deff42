"""Which register tile a CPU kernel takes: P positions x Q blocks of 16 channels."""

from __future__ import annotations

from dataclasses import dataclass

from rekindle._types import Target

BLOCK = 16
_JOBS_PER_UNIT = 32
"""Enough to even out two workers, few enough that a job's start (about 20 ns) does not count."""


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


def jobs_wanted(target: Target, columns: int) -> int:
    """Into how many jobs each of `columns` independent columns of work should be cut."""
    return max(1, -(-_JOBS_PER_UNIT * target.compute_units // columns))


def choose_tile(
    target: Target,
    positions: int,
    blocks: int,
    copies: int,
    *,
    ragged: bool = False,
    width: int | None = None,
) -> Tile:
    """The tile with the fewest cycles by a model of the inner loop.

    `copies` is how often a problem of `positions` x `blocks` comes: images times groups. Q
    divides `blocks`, unless they may be `ragged`. `width`: floats of a vector,
    the target's by default.

    Per input channel a tile of P x Q blocks takes R = 16 Q / width vectors of weights, P scalars
    and P R multiply-adds, two of each a cycle; below ten multiply-adds their latency shows, and
    the weights come from the second-level cache at 32 bytes a cycle (2 x 128 ran at half speed).
    A tile must fit the registers: measured with AVX2, 7 x 16 and 3 x 32 spill and run at half
    speed, with AVX-512 so do 7 x 64 and 14 x 32. Of 12 pointers the scalar registers hold most.
    """
    width = width or vector_width(target)
    registers = 30 if width == 16 else 15
    best: tuple[tuple[float, float], Tile] | None = None
    for q in (8, 4, 2, 1):
        vectors = q * BLOCK // width
        if q > blocks or (blocks % q and not ragged):
            continue
        columns = -(-blocks // q) * copies
        for p in range(1, min(positions, 12) + 1):
            # A lone position uses each weight once, straight from memory.
            weights = vectors if p > 1 else 0
            if p * vectors + weights + 1 > registers:
                break
            tiles = -(-positions // p)
            rounds = -(-tiles * columns // target.compute_units)
            half_cycles = max(p * vectors, p + vectors, 10, vectors * width / 4)
            cost = rounds * half_cycles, 1 / p + 1 / vectors
            if best is None or cost < best[0]:
                best = cost, _jobs(target, p, q, tiles, columns)
    assert best is not None
    return best[1]


def _jobs(target: Target, p: int, q: int, tiles: int, columns: int) -> Tile:
    per_job = -(-tiles // min(jobs_wanted(target, columns), tiles))
    return Tile(p, q, per_job, -(-tiles // per_job))
