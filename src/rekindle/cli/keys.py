"""`rekindle keys`: who may call a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rekindle._errors import NotFoundError, UsageError
from rekindle.cli._commands import Outcome, commands
from rekindle.cli._page import Page, stderr_console, table

KeyFileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The file of keys.")]
Add = Annotated[str | None, typer.Option(metavar="NAME", help="Make a key and print it, once.")]
Remove = Annotated[str | None, typer.Option(metavar="NAME", help="Take a key back.")]
Scope = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SCOPE",
        help="What a new key may do: infer, admin (load and unload), metrics; several by "
        "repeating. infer where none is named.",
        show_default=False,
    ),
]


def keys(file: KeyFileArgument, add: Add = None, remove: Remove = None, scope: Scope = None
         ) -> Outcome:  # fmt: skip
    """List, make or take back API keys for `rekindle serve --api-keys FILE`."""
    from rekindle.serve.access import keys as ring

    if add is not None and remove is not None:
        raise UsageError("--add and --remove exclude each other", hint="call it twice")
    if scope and add is None:
        raise UsageError("--scope belongs to --add", hint="a key's scopes cannot be changed")
    known = ring.read(file) if add is None or file.exists() else []
    names = {key.name: key for key in known}
    if add is not None:
        if add in names:
            raise UsageError(
                f"{file} has a key {add!r} already", hint=f"rekindle keys {file} --remove {add}"
            )
        text, key = ring.make(add, scope or ("infer",))
        ring.write(file, [*known, key])
        return Outcome(_row(key) | {"key": text}, lambda page: _show_new(page, text, file))
    if remove is not None:
        if remove not in names:
            listed = ", ".join(names) or "none"
            raise NotFoundError(f"{file} has no key {remove!r}", hint=f"there are {listed}")
        ring.write(file, [key for key in known if key.name != remove])
        return Outcome({"removed": remove}, lambda page: page.line(f"{remove} is out."))
    return Outcome({"keys": [_row(key) for key in known]}, lambda page: _show_all(page, known))


def _row(key: Any) -> dict[str, Any]:
    return {"name": key.name, "scopes": list(key.scopes), "created": key.created.isoformat()}


def _show_new(page: Page, text: str, file: Path) -> None:
    """The key alone on stdout, so that `KEY=$(rekindle keys ...)` works."""
    page.line(text, wrap=False)
    Page(stderr_console()).line(f"Shown once: {file} holds only its hash.", style="dim")


def _show_all(page: Page, known: list[Any]) -> None:
    shown = table("name", "scopes", "created")
    for key in known:
        shown.add_row(key.name, ", ".join(key.scopes), key.created.isoformat())
    page.draw(shown)


commands.register("keys", keys)
