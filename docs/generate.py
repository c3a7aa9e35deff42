"""Write the reference pages from the code; `--check` only says whether they are fresh."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rekindle import _config, _errors

REFERENCE = Path(__file__).parent / "pages" / "reference"
MARK = "<!-- Written by docs/generate.py from {source}: change that, then `make docs`. -->"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; `|` in a cell is escaped."""
    head = tuple(head)
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def environment() -> str:
    rows = ((f"`{v.name}`", v.default, v.meaning) for v in _config.VARIABLES)
    return (
        "# Environment variables\n\n"
        "Every variable that Rekindle reads. An empty one counts as unset.\n\n"
        + table(("variable", "default", "meaning"), rows)
    )


def errors() -> str:
    rows = (
        (f"`{e.__name__}`", str(e.exit_code), str(e.http_status), first_sentence(e))
        for e in family(_errors.RekindleError)
    )
    return (
        "# Errors and exit codes\n\n"
        "Everything Rekindle raises on purpose is a `RekindleError`; its `message` says what was "
        "given and what was expected, its `hint` what to do. On the command line an error is one "
        "red line and the exit code below, with a traceback only when `REKINDLE_DEBUG` is set. "
        "Exit code 0 means success and nothing else; 130 means interrupted.\n\n"
        + table(("error", "exit code", "HTTP status", "meaning"), rows)
    )


def family(error: type[_errors.RekindleError]) -> Iterator[type[_errors.RekindleError]]:
    """The class and everything below it in its file, parents first."""
    yield error
    for child in error.__subclasses__():
        if child.__module__ == error.__module__:
            yield from family(child)


def first_sentence(item: object) -> str:
    """First paragraph of the docstring, on one line."""
    return " ".join((item.__doc__ or "").strip().split("\n\n")[0].split())


PAGES: dict[str, tuple[str, Callable[[], str]]] = {
    "environment.md": ("src/rekindle/_config.py", environment),
    "errors.md": ("src/rekindle/_errors.py", errors),
}


def stale() -> Iterator[tuple[Path, str, str]]:
    """Pages that differ from the code: path, the text there, the text that should be."""
    for name, (source, write) in PAGES.items():
        path = REFERENCE / name
        new = f"{MARK.format(source=source)}\n\n{write().strip()}\n"
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old != new:
            yield path, old, new


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    check = parser.parse_args().check
    count = 0
    for path, old, new in stale():
        count += 1
        if check:
            lines = (text.splitlines(keepends=True) for text in (old, new))
            sys.stdout.writelines(difflib.unified_diff(*lines, path.name, "the code says"))
        else:
            path.write_text(new, encoding="utf-8")
            print(f"wrote {path.name}")
    if check and count:
        print("Generated pages are stale: run `make docs` and commit them.")
    return int(check and count > 0)


if __name__ == "__main__":
    raise SystemExit(main())
