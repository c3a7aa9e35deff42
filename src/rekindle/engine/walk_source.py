"""The text of a program that walks through many launches in one: see `walk`.

Each specialised template becomes a device function: the work-item's place comes as arguments, in
variables that `get_global_id` and `get_global_size` then stand for. A `case` per kind of launch
reads the arguments of that function from the step's record and shares its jobs out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rekindle.engine.kernels import Argument, Launch, source_text
from rekindle.engine.program import Specialisation, program_source, specialisation, suffix

LINE = 16
"""Integers in a line of the cache: counters that two workers write lie that far apart (RK_LINE)."""
RECORD = 4
"""Words of a record before its arguments: the kind and the global sizes."""

_SIZE = re.compile(r"__attribute__\(\(reqd_work_group_size\([^)]*\)\)\)\s*")
_ENTRY = re.compile(r"__kernel\s((?:(?!void NAME)[^;{])*)void NAME\((\w+)\)\(")

_HEAD = """
#define get_global_id(d) RK_ID(d)
#define get_group_id(d) RK_ID(d)
#define get_global_size(d) RK_COUNT(d)
#define get_local_id(d) 0
#define RK_ID(d) rk_id##d
#define RK_COUNT(d) rk_n##d
"""
_IDS = "".join(f"const int rk_{what}{d}, " for what in ("id", "n") for d in range(3))

_CALLS = {np.int32: "(int)t[{0}]", np.uint32: "(uint)t[{0}]", np.int64: "t[{0}]",
          np.float32: "as_float((int)t[{0}])"}  # fmt: skip
_NAMES = {np.int32: "int", np.uint32: "uint", np.int64: "long", np.float32: "float"}


@dataclass(frozen=True, order=True)
class Kind:
    """What launches have in common that a walk calls by one function with the same arguments."""

    spec: Specialisation
    entry: str
    args: tuple[str, ...]
    """The C type of each number; empty for memory."""


def kind_of(launch: Launch) -> Kind:
    return Kind(specialisation(launch), launch.entry, tuple(map(_type, launch.args)))


def word(number: Argument) -> int:
    """A number among a launch's arguments as its record has it."""
    if isinstance(number, np.float32):
        return int(np.array(number).view(np.int32))
    assert isinstance(number, np.integer)
    return int(number)


def walk_source(kinds: Sequence[Kind], wide: bool) -> str:
    """The program whose kernel `walk` knows these kinds of launches, by their position.

    `wide`: for vectors of 512 bits. LLVM splits those in functions that have no such parameter,
    and spills (measured: a third slower), so each function has one that it does not read.
    """
    body = program_source(dict.fromkeys(kind.spec for kind in kinds))
    dummy = "const float16 rk_wide, " if wide else ""
    declared = f"\\1static __attribute__((noinline)) void NAME(\\2)({dummy}{_IDS}"
    functions = _ENTRY.sub(declared, _SIZE.sub("", body))
    calls = [_function(number, kind, wide) for number, kind in enumerate(kinds)]
    cases = [f"case {n}: rk_step{n}(t, state, me, workers); break;" for n in range(len(kinds))]
    kernel = "\n".join(("RK_WALK(", *cases, ")"))
    ids = "#undef get_group_id"
    return "\n".join((_HEAD, functions, ids, source_text("_walk"), *calls, kernel))


def _function(number: int, kind: Kind, wide: bool) -> str:
    """The function of one kind: arguments from the record `t`, then its share of the jobs."""
    lines, names = [], ["(float16)(0.0f)"] if wide else []
    names.append("RK_IDS")
    for k, kind_name in enumerate(kind.args):
        source = {t: _CALLS[n] for n, t in _NAMES.items()}.get(kind_name, "(__global void *)t[{0}]")
        lines.append(f"  {kind_name or '__global void *'} a{k} = {source.format(k + RECORD)};")
        names.append(f"a{k}")
    call = f"{kind.entry}_{suffix(kind.spec)}({', '.join(names)})"
    head = (
        f"static __attribute__((noinline)) void rk_step{number}(const __global long *t,\n"
        "    volatile __global int *state, const int me, const int workers) {"
    )
    return "\n".join((head, *lines, f"  RK_SHARE_OUT({call})", "}"))


def _type(arg: Argument) -> str:
    return next((name for kind, name in _NAMES.items() if isinstance(arg, kind)), "")
