"""Kernels: one OpenCL C file and one spec beside it for each way to do a logical call.

A spec file registers a `Kernel`: the logical call it implements, what it can take, how well it
fits, and the launches it makes of a call. Several kernels may implement one call; `choose` takes
the one with the highest `score` among those that support the call on the Target.

A kernel's source is a template. Its text is compiled once for each distinct set of `defines`,
many of them in one program, so every function and every `__kernel` in it is written `NAME(f)`,
which expands to a name of its own for each set. Sizes that only count loop trips are run-time
`int` arguments; what the compiler must know (tile, window, epilogue) is a define.

Rules for every source (why: the facts in docs/architecture):
- `acc += a * b`, never `fma()` or `mad()`: slow calls on PoCL's wheel, quarter rate on Polaris.
- no builtin takes a vector of 16 by value (PoCL's wheel aborts the process): load and store
  through `*(__global V *)p`, arithmetic, comparisons and selects only; own functions are fine.
- what templates have in common stands in `_name.cl`; the line `#include "_name.cl"` brings it.
- no inline assembly, no relaxed math: NaN and infinity survive.
- at most 16 KiB of local memory, work-groups of at most 256; no local memory on CPUs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from rekindle._errors import UnsupportedOperatorError, UsageError
from rekindle._registry import Registry
from rekindle._types import Target
from rekindle.graph.ir import Array, Value
from rekindle.graph.lowering import LogicalCall


@dataclass(frozen=True)
class Packed:
    """A constant in the order a kernel wants it; packed when the plan meets a device.

    `key` names it for sharing: two Packed with one key must be equal.
    """

    key: str
    nbytes: int
    pack: Callable[[], Array]
    itemsize: float = 4
    """Bytes of an element as the kernel counts them; half a byte for numbers of four bits."""


@dataclass(frozen=True)
class Workspace:
    """Scratch memory of one call, live only during its launches."""

    label: str
    nbytes: int


Argument = Value | Packed | Workspace | np.int32 | np.uint32 | np.float32 | np.int64


@dataclass(frozen=True)
class Launch:
    """One kernel execution. `defines` and `args` follow the source's own order."""

    kernel: str
    """Stem of the `.cl` file."""
    entry: str
    """Name inside `NAME(...)` of the `__kernel`."""
    defines: tuple[tuple[str, str], ...]
    args: tuple[Argument, ...]
    global_size: tuple[int, ...]
    local_size: tuple[int, ...] | None
    flops: int = 0
    bytes_moved: int = 0
    writes: tuple[int, ...] = (-1,)
    """Positions in `args` that the kernel writes; the last one by default."""
    unaligned: tuple[int, ...] = ()
    """Positions in `args` that may lie at any address of their elements, as users' arrays do; what
    other kernels read and write lies at multiples of 64 bytes."""
    flops_again: int = 0
    """Operations of the plain sum that it does more than once: time, but no work."""
    chosen: str = ""
    """Name of the spec that made it, in a plan."""
    tuned: str = ""
    """Kernel and variant, where a tuning record decided."""


Variant = tuple[tuple[str, int], ...]
"""Settings of a kernel for one call, by the names of its tunables; (): as it does by itself."""


@dataclass(frozen=True)
class Context:
    """What a spec may ask while it makes launches."""

    target: Target
    constant: Callable[[str], Array | None]
    """The constant behind a value's name, or None for computed values."""
    variant: Variant = ()
    """One of the call's `Kernel.variants`, or () for the heuristic's choice."""

    def setting(self, tunable: str, default: int) -> int:
        """A tunable's value in `variant`, or `default` where that is the heuristic's to choose."""
        return dict(self.variant).get(tunable, default)


@dataclass(frozen=True)
class Floor:
    """A least share of multiply-adds, and why it is not the kernel's."""

    share: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Isa:
    """What a kernel promises of its instructions on Polaris; `make isa` holds it to that."""

    multiply_adds: float = 0.0
    """Their least share among the vector instructions of the hot loop."""
    variants: Mapping[tuple[str, str], Floor] = field(default_factory=dict)
    """Another least share where a define (name, value) is so."""
    direct: Callable[[Mapping[str, str]], int] | None = None
    """By the defines, how many multiply-adds of the plain sum one trip of the hot loop stands for,
    where it does fewer: they are counted in place of its own."""
    waves: int = 4
    """Waves that each SIMD has of it, at least: fewer do not hide the latency of memory."""
    unkept: Mapping[str, str] = field(default_factory=dict)
    """Rules that it breaks, with the reason: scratch, fma, multiplies, waves, lds, work-group."""

    def share(self, defines: Sequence[tuple[str, str]]) -> float:
        """The least share of multiply-adds of a launch with these defines."""
        found = (self.variants[d].share for d in defines if d in self.variants)
        return min(found, default=self.multiply_adds)


DECODES = Isa(unkept={"multiplies": "positions are decoded by division, once an element"})
"""What a kernel promises that moves elements one by one."""


def _one_way(_call: LogicalCall, _context: Context) -> Sequence[Variant]:
    return [()]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A way to do a logical call. `score` 0 or less: cannot; the highest score wins."""

    call: str
    score: Callable[[LogicalCall, Context], float]
    launches: Callable[[LogicalCall, Context], Sequence[Launch]]
    isa: Isa = Isa()
    tunables: Mapping[str, Collection[int]] | None = None
    """The values that each setting can have; None: the tuner leaves this kernel alone."""
    variants: Callable[[LogicalCall, Context], Sequence[Variant]] = _one_way
    """The settings that a call admits, best first by what the spec expects of them. The first
    makes the same launches as ()."""


_INCLUDE = re.compile(r'^#include "(_\w+)\.cl"\n', re.MULTILINE)

REGISTRY: Registry[Kernel] = Registry("rekindle.engine.kernels", kind="kernel")


def register(name: str, kernel: Kernel) -> None:
    REGISTRY.register(name, kernel)


def source_text(stem: str) -> str:
    """The `.cl` file of that stem, with the text of what it includes."""
    text = (Path(__file__).parent / f"{stem}.cl").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda found: source_text(found[1]), text)


def check_disabled(target: Target) -> None:
    """UsageError, with near names, where the target's `disabled_kernels` names no kernel."""
    known = REGISTRY.names()
    for name in target.disabled_kernels:
        if name not in known:
            near = difflib.get_close_matches(name.lower(), known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(known)}"
            raise UsageError(
                f"{name!r} is to be switched off, but no kernel is so called", hint=hint
            )


def displaced(call: LogicalCall, context: Context) -> str | None:
    """Which kernel the call would have if none were left out, and why not; None: it has it."""
    target = context.target
    if not (target.disabled_kernels or target.broken_kernels):
        return None
    every = replace(target, disabled_kernels=(), broken_kernels=())
    found = choose(call, replace(context, target=every))
    if found and found[0] in target.disabled_kernels:
        return f"{found[0]} is switched off"
    if found and found[0] in target.broken_kernels:
        return f"{found[0]} does not compile on this driver"
    return None


def candidates(call: LogicalCall, context: Context) -> list[tuple[str, Kernel]]:
    """Every kernel that takes a call, with its name, the highest score first.

    Kernels in the target's `disabled_kernels` and `broken_kernels` count as not there.
    """
    left_out = (*context.target.disabled_kernels, *context.target.broken_kernels)
    scored: list[tuple[float, str, Kernel]] = []
    for name in REGISTRY.names():
        kernel = REGISTRY.get(name)
        if kernel.call != call.name or name in left_out:
            continue
        score = kernel.score(call, context)
        if score > 0:
            scored.append((score, name, kernel))
    return [(name, kernel) for _, name, kernel in sorted(scored, key=lambda s: -s[0])]


def choose(call: LogicalCall, context: Context) -> tuple[str, Kernel] | None:
    """The best kernel for a call, with its name; None where no kernel takes it."""
    return next(iter(candidates(call, context)), None)


def require(call: LogicalCall, context: Context) -> tuple[str, Kernel]:
    """`choose`, or UnsupportedOperatorError that names the call and its types."""
    found = choose(call, context)
    if found is None:
        types = ", ".join(f"{v.dtype}{list(v.shape or ())}" for v in call.inputs if v)
        off = displaced(call, context)
        why = f"; {off}" if off else ""
        raise UnsupportedOperatorError(
            f"no OpenCL kernel for {call.name} of {types} (node {call.node}){why}",
            hint="run it with provider='onnxruntime', or without strict=True",
        )
    return found
