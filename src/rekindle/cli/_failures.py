"""From an exception to an exit code and one red line that says what to do.

Everything a command can raise ends here, once. With `--json` the line is a document instead:
`{"error": {"type": ..., "message": ..., "hint": ..., "exit_code": ...}}`.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from rekindle import _config
from rekindle._errors import RekindleError, UsageError
from rekindle.cli._commands import OutputError, print_json
from rekindle.cli._page import plain, stderr_console

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
_INTERNAL = 70
"""EX_SOFTWARE of sysexits.h: our fault."""
_BUG = "this is a bug in Rekindle: run it again with REKINDLE_DEBUG=1 and report what it prints"


@dataclass(frozen=True)
class Failure:
    """How a command ended that did not succeed."""

    type: str
    message: str
    hint: str | None
    exit_code: int


def guarded(run: Callable[[], Any], *, as_json: bool) -> int:
    """Exit code of `run`: what it returns, or what its failure means, which is printed."""
    try:
        code = run()
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except (OutputError, BrokenPipeError) as error:
        return _output_failed(error)
    except Exception as error:  # the boundary of the program
        return _report(_failure(error), as_json=as_json)
    if code == INTERRUPTED:
        return _report(Failure("Interrupted", "interrupted", None, code), as_json=as_json)
    return code if isinstance(code, int) else 0


def _output_failed(error: Exception) -> int:
    """A reader that has seen enough (`| head -1`) is nobody's error; a full disk is."""
    with Path(os.devnull).open("w") as nowhere:  # or Python would fail again at its exit
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError) or isinstance(error.__cause__, BrokenPipeError):
        return 1
    return _report(Failure("OSError", str(error), None, 1), as_json=False)


def _failure(error: Exception) -> Failure:
    if isinstance(error, RekindleError):
        return Failure(type(error).__name__, error.message, error.hint, error.exit_code)
    describe = getattr(error, "format_message", None)
    if describe is not None:  # what Typer's parser raises, whatever its version calls it
        return Failure(UsageError.__name__, _one_line(describe()), _help_hint(error), 2)
    if isinstance(error, MemoryError):
        return Failure("MemoryError", "the computer's memory is full", "use a smaller batch", 1)
    if isinstance(error, OSError):
        return Failure("OSError", str(error), "check that file, its folder and the disk", 1)
    return Failure(
        type(error).__name__, _one_line(f"{type(error).__name__}: {error}"), _BUG, _INTERNAL
    )


def _report(failure: Failure, *, as_json: bool) -> int:
    if _debugging() and failure.exit_code != INTERRUPTED:
        traceback.print_exc()
    if as_json:
        print_json({"error": asdict(failure)})
    else:
        text = plain(_one_line(f"error: {failure.message}"))
        text.stylize("red")
        if failure.hint:
            text.append(" ")
            text.append(f"({_one_line(failure.hint)})")
        stderr_console().print(text, soft_wrap=True)
    return failure.exit_code


def _debugging() -> bool:
    try:
        return _config.debug_level() >= 1
    except UsageError:  # the failure being reported is that very one
        return False


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _help_hint(error: Exception) -> str:
    path = getattr(getattr(error, "ctx", None), "command_path", None) or "rekindle"
    return f"`{path} --help` lists what it takes"
