"""Loop nests over strided tensors: merging dimensions, index code, and how work is shared out.

A `Nest` is a set of loops and, for each operand, how far one step of each loop moves in its
memory. Dimensions that lie behind one another in every operand merge, so that most calls of any
rank come down to one, two or three loops. Sizes and strides reach a kernel as run-time `int`
arguments: one program serves every shape with the same number of loops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rekindle._types import Target

CPU_JOBS = 64
"""Work-groups per launch on a CPU: enough to balance, few enough to cost nothing. At least four
for each core where there are many."""
CPU_JOB_ELEMENTS = 4096
"""Smaller jobs than this cost more to hand out than to do."""
GPU_GROUP = 64
"""One wave."""


@dataclass(frozen=True)
class Nest:
    """Loops of `sizes`, outermost first; `strides[k][d]` is what loop d adds for operand k."""

    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]

    @property
    def count(self) -> int:
        return math.prod(self.sizes)

    def merged(self, fixed: Sequence[int] = ()) -> Nest:
        """The same walk with fewer loops; those of size 1 go. Loops in `fixed` stay as they are."""
        columns = list(zip(*self.strides, strict=True)) if self.strides else [()] * len(self.sizes)
        out: list[tuple[int, tuple[int, ...], bool]] = []
        for d, (size, steps) in enumerate(zip(self.sizes, columns, strict=True)):
            kept = d in fixed
            if size == 1 and not kept:
                continue
            if out and not kept and not out[-1][2]:
                outer_size, outer_steps, _ = out[-1]
                if all(o == s * size for o, s in zip(outer_steps, steps, strict=True)):
                    out[-1] = (outer_size * size, steps, False)
                    continue
            out.append((size, steps, kept))
        return Nest(
            tuple(size for size, _, _ in out),
            tuple(tuple(steps[k] for _, steps, _ in out) for k in range(len(self.strides))),
        )

    def split(self) -> tuple[Nest, int, tuple[int, ...]]:
        """(all loops but the innermost, its size, its stride for each operand)."""
        if not self.sizes:
            return self, 1, (0,) * len(self.strides)
        outer = Nest(self.sizes[:-1], tuple(s[:-1] for s in self.strides))
        return outer, self.sizes[-1], tuple(s[-1] for s in self.strides)


@dataclass(frozen=True)
class IndexCode:
    """C that turns a flat index over a nest into one offset for each operand."""

    params: tuple[str, ...]
    """Declarations of its parameters."""
    code: str
    """Declares `const int i<d>` and `const int <name>` for each operand."""
    args: tuple[np.int32, ...]


def index_code(nest: Nest, index: str, names: Sequence[str], tag: str = "") -> IndexCode:
    """Code that reads the C variable `index`; `tag` keeps two nests of one kernel apart."""
    rank = len(nest.sizes)
    params = [f"n{tag}{d}" for d in range(1, rank)]
    args = [np.int32(n) for n in nest.sizes[1:]]
    lines, rest = [], f"{index}"
    for d in range(rank - 1, 0, -1):
        lines.append(f"const int i{tag}{d} = ({rest}) % n{tag}{d};")
        lines.append(f"const int q{tag}{d} = ({rest}) / n{tag}{d};")
        rest = f"q{tag}{d}"
    if rank:
        lines.append(f"const int i{tag}0 = {rest};")
    for name, strides in zip(names, nest.strides, strict=True):
        terms = []
        for d, stride in enumerate(strides):
            if stride:
                params.append(f"s_{name}{tag}{d}")
                args.append(np.int32(stride))
                terms.append(f"i{tag}{d} * s_{name}{tag}{d}")
        lines.append(f"const int {name} = {' + '.join(terms) or '0'};")
    return IndexCode(tuple(f"const int {p}" for p in params), " ".join(lines), tuple(args))


def parameters(declarations: Sequence[str]) -> str:
    """Declarations as the beginning of a kernel's parameter list."""
    return "".join(f"{d}, " for d in declarations)


def row_major_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a row-major tensor; 0 where broadcasting repeats a size of 1."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(0 if size == 1 else step)
        step *= size
    return tuple(reversed(strides))


@dataclass(frozen=True)
class Share:
    """`rows` of `inner` steps cut into tiles of at most `chunk` steps, `per_item` tiles each."""

    chunk: int
    per_item: int
    items: int
    group: int

    @property
    def global_size(self) -> tuple[int, ...]:
        return (-(-self.items // self.group) * self.group,)

    @property
    def local_size(self) -> tuple[int, ...]:
        return (self.group,)

    @property
    def args(self) -> tuple[np.int32, np.int32]:
        return np.int32(self.chunk), np.int32(self.per_item)


def share(target: Target, rows: int, inner: int, step_elements: int = 1) -> Share:
    """How `rows` times `inner` steps, each of `step_elements` elements' work, are shared out.

    A GPU's work-item takes one step; a CPU's takes a long run of them. There is always one item.
    """
    if not rows * inner:
        return Share(1, 1, 1, 1 if target.family == "cpu" else GPU_GROUP)
    if target.family != "cpu":
        return Share(1, 1, rows * inner, GPU_GROUP)
    total = rows * inner
    most = max(CPU_JOBS, 4 * target.compute_units)
    jobs = max(1, min(most, total * step_elements // CPU_JOB_ELEMENTS))
    if rows >= jobs:
        per_item = -(-rows // jobs)
        return Share(inner, per_item, -(-rows // per_item), 1)
    chunks = -(-jobs // rows)
    chunk = -(-inner // chunks)
    return Share(chunk, 1, rows * -(-inner // chunk), 1)
