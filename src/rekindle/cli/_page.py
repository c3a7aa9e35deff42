"""What people see: tables and lines on stdout, progress and problems on stderr.

Rich leaves out colour where the output is no terminal, where TERM is dumb or NO_COLOR is set.
"""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO, TypeVar

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 160
"""Columns where nobody says how many: a file or a pipe. Rich would take 80 and cut."""
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Unicode's explicit bidirectional controls: a name could be made to read as another."""
T = TypeVar("T")


def plain(value: object) -> Text:
    """Text from outside (file names, labels): no markup, and no control characters."""
    return Text("".join("\ufffd" if _acts(c) else c for c in str(value)))


def _acts(char: str) -> bool:
    """Whether a character does something to a terminal: controls, line ends, turned direction."""
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _TURNING


class Page:
    """Lines and tables for people, one below the other."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, *parts: object, style: str = "", indent: int = 0, wrap: bool = True) -> None:
        """One line; Text keeps its own style, everything else is taken as plain text.

        On a terminal it wraps between words, indented, unless it is there to be copied.
        """
        text = Text(style=style)
        for part in parts:
            text.append_text(part if isinstance(part, Text) else plain(part))
        if wrap and self._console.is_terminal:
            self._console.print(Padding(text, (0, 0, 0, indent)))
        else:
            self._console.print(Text(" " * indent) + text, soft_wrap=True)

    def heading(self, text: str) -> None:
        self._console.print()
        self._console.print(Text(text, style="bold"))

    def blank(self) -> None:
        self._console.print()

    def draw(self, renderable: RenderableType) -> None:
        self._console.print(renderable)

    def next_steps(self, steps: Iterable[tuple[str, str]]) -> None:
        """What to type next: pairs of command and what it does."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        for command, meaning in steps:
            grid.add_row(Text("  " + command, style="cyan"), Text(meaning, style="dim"))
        self.heading("Next")
        self.draw(grid)


def table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """An empty table; the columns named in `numbers` stand right and never wrap."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        right = name in numbers
        made.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return made


def stdout_page() -> Page:
    return Page(_console(sys.stdout))


def stderr_console() -> Console:
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    console = Console(file=stream, highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = shutil.get_terminal_size((_PIPE_WIDTH, 25)).columns
    return console


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner on stderr while something takes its time; nothing where stderr is no terminal."""
    console = stderr_console()
    if not console.is_terminal or console.is_dumb_terminal:
        yield
        return
    with console.status(plain(what)):
        yield


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items, with a bar on stderr where that is a terminal and there is more than one."""
    console = stderr_console()
    if total < 2 or not console.is_terminal or console.is_dumb_terminal:
        yield from items
        return
    from rich import progress as rich

    columns = (rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeRemainingColumn())
    with rich.Progress(
        rich.TextColumn("{task.description}"), *columns, console=console, transient=True
    ) as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            bar.advance(task)
            yield item


@contextmanager
def clock_bar(total_s: float) -> Iterator[Callable[[float, str], None]]:
    """A bar on stderr that fills with time: call it with the seconds that are over and a text.

    Nothing where stderr is no terminal.
    """
    console = stderr_console()
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda _elapsed_s, _what: None
        return
    from rich import progress as rich

    columns = (rich.BarColumn(), rich.TextColumn("{task.completed:.0f} of {task.total:.0f} s"))
    with rich.Progress(
        *columns, rich.TextColumn("{task.description}"), console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=total_s)
        yield lambda elapsed_s, what: bar.update(
            task, completed=min(elapsed_s, total_s), description=str(plain(what))
        )


def amount(value: float | None, unit: str = "") -> str:
    """`40813184` to `40.8 M`; with a unit `40.8 MB`. None is a dash."""
    if value is None:
        return "-"
    for factor, prefix in _UNITS:
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def memory(value: int | None) -> str:
    """Memory in powers of 1024, as its makers count it: `8.0 GiB`. None is a dash."""
    if value is None:
        return "-"
    for factor, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value} B"


def milliseconds(value_ms: float) -> str:
    return f"{value_ms:.2f} ms" if value_ms < 100 else f"{value_ms:,.0f} ms"


def percent(share: float, digits: int = 1) -> str:
    """`99.2%`. What rounds to none or to all without being it says so: `<0.1%`, `>99.9%`."""
    step = 10.0 ** -(digits + 2)
    if 0 < share < step / 2:
        return f"<{step:.{digits}%}"
    if 1 - step / 2 <= share < 1:
        return f">{1 - step:.{digits}%}"
    return f"{share:.{digits}%}"
