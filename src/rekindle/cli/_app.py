"""The program `rekindle`: finds its commands in this folder and imports only the one asked for."""

from __future__ import annotations

import difflib
import functools
import importlib
import logging
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import rekindle
from rekindle import _config
from rekindle._errors import UsageError
from rekindle.cli._commands import below, build, commands
from rekindle.cli._failures import guarded
from rekindle.cli._page import plain, stderr_console


class Family(TyperGroup):
    """Commands whose names begin alike: all of them, or those of `rekindle client`."""

    prefix = ""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(below(self.prefix))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        name = self.prefix + cmd_name
        if name in commands:
            return build(name)
        return family(name) if below(f"{name}.") else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, known = args[0], below(self.prefix)
        if name not in known and not name.startswith("-"):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
            shown = f"{self.prefix}{name}".replace(".", " ")
            raise UsageError(f"there is no command {shown!r}", hint=hint)
        return super().resolve_command(ctx, args)


@functools.cache
def family(name: str) -> Any:
    """The parser of a folder of commands; the folder's docstring is its help."""
    kind = type("Family", (Family,), {"prefix": f"{name}."})
    help_text = importlib.import_module(f"{__package__}.{name}").__doc__
    made = typer.Typer(
        cls=kind, add_completion=False, pretty_exceptions_enable=False, invoke_without_command=True
    )
    made.callback(help=help_text)(_explain)
    group = typer.main.get_command(made)
    group.name = name.rpartition(".")[2]
    return group


def _explain(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None and (text := ctx.get_help()):
        print(text)  # empty where Typer has drawn it already, with Rich


class Commands(Family):
    """The group of all commands; also where every failure becomes an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and end with the exit code; with `standalone_mode=False` return it."""

        def run() -> Any:
            _speak_to_people()
            return super(Commands, self).main(
                args, prog_name, complete_var, False, windows_expand_args, **extra
            )

        code = guarded(run, as_json="--json" in (sys.argv[1:] if args is None else args))
        if standalone_mode:
            sys.exit(code)
        return code


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit code 0 means success and nothing else. REKINDLE_DEBUG=1 shows tracebacks.",
)


@app.callback(help="AI on the graphics card you already own: ONNX and TorchScript over OpenCL.")
def _rekindle(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"rekindle {rekindle.__version__}")
    else:
        _explain(ctx)


def main() -> None:
    """Entry point of the `rekindle` command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal cannot show stops nothing
            stream.reconfigure(errors="replace")
    app(prog_name="rekindle")


class _ToStderr(logging.Handler):
    """Log records as lines on the stderr of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        text = plain(f"{record.levelname.lower()}: {record.getMessage()}")
        text.stylize("yellow" if record.levelno >= logging.WARNING else "dim")
        stderr_console().print(text, soft_wrap=True)


def _speak_to_people() -> None:
    """Rekindle's own log goes to stderr; other libraries' warnings only when debugging."""
    logger = logging.getLogger("rekindle")
    if not any(isinstance(handler, _ToStderr) for handler in logger.handlers):
        logger.addHandler(_ToStderr())
    if _config.debug_level() >= 1:
        logger.setLevel(logging.INFO)
    else:
        warnings.simplefilter("ignore")
