"""A linker for PoCL where the system has none.

PoCL turns each kernel into a shared object with `ld` and the compiler's support library, which a
machine without gcc lacks. The `ziglang` wheel (MIT) carries LLVM's linker; a script named `ld`
that calls it, first in PATH, serves PoCL as well. The script leaves libraries out: what a kernel
calls (memcpy, the odd maths function) is in the process that loads it.
"""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import tempfile
from pathlib import Path

from rekindle import _config
from rekindle._log import warn_once

_SCRIPT = """\
#!/bin/sh
for argument do
  shift
  case $argument in
    -l* | --as-needed | --no-as-needed) ;;
    *) set -- "$@" "$argument" ;;
  esac
done
exec {zig} ld.lld "$@"
"""


def provide() -> None:
    """Put a linker into PATH if the system has none and the ziglang wheel is installed."""
    zig = zig_program()
    if zig is None or has_system_linker(Path("/")):
        return
    folder = _config.cache_dir() / "linker"
    try:
        _write(folder, zig)
    except OSError as error:
        warn_once(f"PoCL's linker is not kept in {folder}: {error}")
        folder = Path(tempfile.mkdtemp(prefix="rekindle-linker-"))
        _write(folder, zig)
    _config.prepend_path(folder)


def has_system_linker(root: Path) -> bool:
    """Whether `ld`, gcc's support library and the C library's link file lie under `root`."""
    wanted = (
        ("usr/bin/ld",),
        ("usr/lib/gcc/*/*/libgcc.a", "usr/lib64/gcc/*/*/libgcc.a"),
        ("usr/lib/*-linux-gnu/libc.so", "usr/lib64/libc.so", "usr/lib/libc.so"),
    )
    return all(
        any(next(root.glob(place), None) is not None for place in places) for places in wanted
    )


def zig_program() -> Path | None:
    """The zig executable of the ziglang wheel; None where it is not installed."""
    spec = importlib.util.find_spec("ziglang")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if found := shutil.which("zig", path=folder):
            return Path(found)
    return None


def _write(folder: Path, zig: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = _SCRIPT.format(zig=shlex.quote(str(zig)))
    script = folder / "ld"
    if not script.is_file() or script.read_text(encoding="utf-8") != text:
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as file:
            file.write(text)
        Path(file.name).chmod(0o755)
        Path(file.name).replace(script)
