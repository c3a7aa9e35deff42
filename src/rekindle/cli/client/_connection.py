"""Which server, and how to be let in: the options of every `rekindle client` command."""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rekindle import _config
from rekindle._errors import MissingExtraError
from rekindle.cli._commands import Outcome, commands

if TYPE_CHECKING:
    from rekindle.serve.client import Client

_DEFAULT_URL = "http://127.0.0.1:8000"
_NEEDED = ("urllib3", "grpc", "google.protobuf")
_Url = Annotated[
    str,
    typer.Option("--url", "-u", help="http://HOST:PORT, https://, grpc:// or grpcs://."),
]
_ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", metavar="KEY", help="Better: set REKINDLE_API_KEY.",
                 show_default=False),
]  # fmt: skip
_CaCert = Annotated[
    Path | None,
    typer.Option("--ca-cert", metavar="FILE", help="Authority to trust (PEM), for own ones."),
]
_Timeout = Annotated[
    float, typer.Option("--timeout", min=0.01, help="Seconds to wait for an answer.")
]


def register(name: str, command: Callable[..., Outcome]) -> None:
    """Register `client.NAME`: a function whose first parameter is the connected Client."""
    commands.register(f"client.{name}", _connected(command))


def _connected(command: Callable[..., Outcome]) -> Callable[..., Outcome]:
    @functools.wraps(command)
    def run(
        *,
        url: str,
        api_key: str | None,
        ca_cert: Path | None,
        timeout: float,
        **arguments: Any,
    ) -> Outcome:
        client = _connect(url, api_key, ca_cert, timeout)
        try:
            return command(client, **arguments)
        finally:
            client.close()

    # The client is no option, and its class is not imported only to be read here.
    command.__annotations__.pop(next(iter(inspect.signature(command).parameters)))
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    shared = (
        ("url", _DEFAULT_URL, _Url),
        ("api_key", None, _ApiKey),
        ("ca_cert", None, _CaCert),
        ("timeout", 60.0, _Timeout),
    )
    keyword = inspect.Parameter.KEYWORD_ONLY
    options = [inspect.Parameter(n, keyword, default=d, annotation=a) for n, d, a in shared]
    run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    return run


def _connect(url: str, api_key: str | None, ca_cert: Path | None, timeout_s: float) -> Client:
    if missing := [name for name in _NEEDED if not _installed(name)]:
        raise MissingExtraError(
            f"the client needs {', '.join(missing)}", hint="pip install 'rekindle[client]'"
        )
    from rekindle.serve.client import connect

    return connect(
        url,
        api_key=api_key if api_key is not None else _config.read("REKINDLE_API_KEY"),
        ca_cert=str(ca_cert) if ca_cert else None,
        timeout_s=timeout_s,
    )


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
