"""The input of a 1 x 1 convolution, copied first into the order in which `conv_tiled` reads it.

A tile reads P pixels of each block of 16 channels, and every panel of outputs reads all of them
again. Blocks lie a plane apart: 49 pages where images are 56 x 56. So a tile's reads are as many
streams as there are blocks, too many for the prefetchers and for the first-level table of pages;
of a strided convolution they leave out pixels, too, and each pixel's address is computed anew.
`conv_pack` makes one stream of it, whose addresses are constants, and of float32.
"""

from __future__ import annotations

import numpy as np

from rekindle._types import DType, Target
from rekindle.engine.kernels import Launch, Workspace
from rekindle.engine.kernels._conv import Problem
from rekindle.engine.kernels._tile import BLOCK, Tile, jobs_wanted
from rekindle.graph.ir import Value

_STRIDED = 3
"""Panels of outputs from which on a copy of strided pixels pays. Measured on two AVX2 cores, the
least time with it over that without: 0.6 to 0.7 from 256 channels to 512 at 56 x 56, from 512 to
1024 and from 1024 to 2048 (0.5 to 0.6 for eight images), 0.6 to 0.8 in ResNet-18; with four panels
0.7 to 0.9, with three 0.7 to 1.0, with two 0.8 to 1.1."""
_NARROW = 16
"""The same for a dense convolution of values that are not float32, which each panel would widen
anew: 0.8 to 1.0 with as many (1.0 to 1.1 in images of 13 x 13), 1.0 to 1.2 with half of them."""
_DENSE, _PLANES, _READ_BYTES = 8, 16, 6 << 20
"""The same for all dense ones, with the blocks of channels and what all panels read: 0.8 to 0.9
from 512 channels to 256 at 28 x 28, from 1024 to 512 and from 2048 to 512, 0.8 to 1.0 from 256 to
128 at 56 x 56. From 64 to 256, from 256 to 64 (four panels) and from 256 to 128 at 14 x 14, which
stays in the second-level cache, it would be 1.0 to 1.2."""


def input_of(
    problem: Problem, tile: Tile, target: Target
) -> tuple[list[Launch], Value | Workspace]:
    """What `conv_tiled` reads: x itself, or a copy in tiles and the launch that makes it."""
    if not _is_worth_copying(problem, tile):
        return [], problem.x
    win, channels = problem.window, -(-problem.c // BLOCK) * BLOCK
    tiles = -(-problem.plane // tile.positions)
    per_job = -(-tiles // jobs_wanted(target, problem.n))
    copied = problem.n * tiles * tile.positions * channels
    pixels = Workspace(f"{problem.y.name}#pixels", 4 * copied)
    sizes = (channels // BLOCK, *win.size, *win.out, *win.strides, per_job)
    launch = Launch(
        kernel="conv_pack",
        entry="pack",
        defines=(("P", str(tile.positions)), problem.defines[0]),
        args=(problem.x, *map(np.int32, sizes), pixels),
        global_size=(-(-tiles // per_job), 1, problem.n),
        local_size=(1, 1, 1),
        bytes_moved=copied * problem.x.dtype.itemsize + pixels.nbytes,
    )
    return [launch], pixels


def _is_worth_copying(problem: Problem, tile: Tile) -> bool:
    win, planes = problem.window, -(-problem.c_group // BLOCK)
    panels = -(-problem.m_group // BLOCK) // tile.blocks
    if not win.is_one_tap:
        return False
    if win.size != win.out:
        return panels >= _STRIDED
    if problem.x.dtype is not DType.FLOAT32 and panels >= _NARROW:
        return problem.plane > tile.positions
    read = 4 * panels * planes * BLOCK * problem.plane
    return panels >= _DENSE and planes >= _PLANES and read >= _READ_BYTES
