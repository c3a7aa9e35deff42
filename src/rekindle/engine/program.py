"""A program's text: kernel templates, each specialised by its defines. Plain text, no OpenCL."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from rekindle.engine.kernels import Launch, source_text
from rekindle.engine.kernels._render import prelude, storage_prelude

OPTIONS = ("-cl-std=CL1.2", "-cl-mad-enable")
"""One option set everywhere. Relaxed math never: NaN and infinity must survive."""

Specialisation = tuple[str, tuple[tuple[str, str], ...]]


def specialisation(launch: Launch) -> Specialisation:
    return launch.kernel, launch.defines


def suffix(spec: Specialisation) -> str:
    """Short hash that makes a specialisation's function names its own."""
    return hashlib.sha256(repr(spec).encode()).hexdigest()[:12]


def program_source(specs: Iterable[Specialisation]) -> str:
    """One program's text: the preludes in use, then each specialised template."""
    parts = []
    for stem, defines in specs:
        names = ["NAME", "NAME_", *(key.split("(")[0] for key, _ in defines)]
        parts += [
            f"#define NAME_(x, h) x##_##h\n#define NAME(x) NAME_(x, {suffix((stem, defines))})"
        ]
        parts += [f"#define {key} {value}" for key, value in defines]
        parts += [source_text(stem)]
        parts += [f"#undef {name}" for name in names]
    body = "\n".join(parts) + "\n"
    lanes = [n for n in (1, 4, 8, 16) if re.search(rf"\brk{n}_", body)]
    return "\n".join([storage_prelude(), *(prelude(n) for n in lanes), body])
