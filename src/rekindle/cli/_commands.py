"""What a command is: a function that finds something out, and one outcome, shown in two ways.

The directory is the list of commands: `doctor.py` registers `doctor`, `client/infer.py` registers
`client.infer`, which is typed `rekindle client infer`. A command's function takes its arguments
and options and returns an Outcome; `--json` is added to every command here, so that none can mix
its document with text.
"""

from __future__ import annotations

import enum
import functools
import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rekindle._registry import Registry
from rekindle.cli._page import Page, stdout_page


@dataclass(frozen=True)
class Outcome:
    """What a command found: a document for programs, a drawing for people, the exit code."""

    document: Mapping[str, Any]
    draw: Callable[[Page], None]
    exit_code: int = 0


class OutputError(Exception):
    """What a command found could not be written to stdout."""


Command = Callable[..., Outcome]
commands: Registry[Command] = Registry(
    "rekindle.cli", kind="command", name_of=lambda stem: stem.replace("_", "-")
)

_JSON_HELP = "Print one JSON document and nothing else."
_JsonOption = Annotated[bool, typer.Option("--json", help=_JSON_HELP)]


@functools.cache
def build(name: str) -> Any:
    """The parser of a command, made from its function's signature; imports the command's file."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name.rpartition(".")[2])(_with_json(commands.get(name)))
    return typer.main.get_command(single)


def below(prefix: str) -> tuple[str, ...]:
    """What may be typed after a prefix ("" or "client."): commands and families of commands."""
    names = (n.removeprefix(prefix) for n in commands.names() if n.startswith(prefix))
    return tuple(dict.fromkeys(name.partition(".")[0] for name in names))


def _with_json(command: Command) -> Callable[..., None]:
    def run(*, as_json: bool = False, **arguments: Any) -> None:
        outcome = command(**arguments)
        try:
            if as_json:
                print_json(outcome.document)
            else:
                outcome.draw(stdout_page())
            sys.stdout.flush()  # what cannot be written must fail here, not while Python ends
        except OSError as error:
            raise OutputError(f"the output cannot be written: {error.strerror}") from error
        raise typer.Exit(outcome.exit_code)

    signature = inspect.signature(command, eval_str=True)
    option = inspect.Parameter(
        "as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_JsonOption
    )
    parameters = [*signature.parameters.values(), option]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout. NaN and infinities, which JSON lacks, become null."""
    print(json.dumps(_plain(document), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(_plain(v) for v in value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value.value if isinstance(value, enum.Enum) else value
