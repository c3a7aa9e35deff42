"""Talking to a running server, Rekindle's or another one of the Open Inference Protocol v2.

`connect(url)` gives a `Client`: over REST for `http://` and `https://`, over gRPC for `grpc://`
and `grpcs://`. It needs no part of the engine, and no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from rekindle._errors import UsageError
from rekindle._log import logger
from rekindle.graph.ir import Array

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_S = 5.0
"""A server that does not take a connection within this time is not there."""
_PORTS = {"http": 8000, "https": 443, "grpc": 8001, "grpcs": 8001}


@dataclass(frozen=True)
class Endpoint:
    """Where a server is, and how to be let in. Times in seconds."""

    scheme: str
    host: str
    port: int
    api_key: str | None = field(default=None, repr=False)
    ca_cert: str | None = None
    timeout_s: float = 60.0

    @property
    def encrypted(self) -> bool:
        return self.scheme in ("https", "grpcs")

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"


class Client(Protocol):
    """What can be asked of a server. Answers are the protocol's own, as plain dictionaries.

    Every call raises UnreachableError where nobody answers, DeadlineError where the answer takes
    longer than the timeout, and otherwise the error that the server's status means, with the
    server's own message.
    """

    endpoint: Endpoint

    def health(self) -> dict[str, Any]:
        """At least `ready`; over REST also what a Rekindle server tells of itself."""
        ...

    def models(self) -> list[dict[str, Any]]:
        """The repository's index: name, version, state, reason of each model."""
        ...

    def metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """Inputs and outputs of a model: name, datatype, shape (-1 where it is dynamic)."""
        ...

    def load(self, model: str) -> None:
        """Load a model, or take up its new versions; returns when it is ready."""
        ...

    def unload(self, model: str) -> None:
        """Stop serving a model; returns when its memory has been given back."""
        ...

    def infer(
        self, model: str, inputs: Mapping[str, Array], version: str = ""
    ) -> tuple[str, dict[str, Array]]:
        """The version that ran, and its outputs in the model's order."""
        ...

    def classify(self, photo: bytes, fields: Mapping[str, str]) -> dict[str, Any]:
        """Labels of a photo; `fields` may name `model` and `top`. UsageError over gRPC."""
        ...

    def close(self) -> None: ...


def connect(
    url: str = DEFAULT_URL,
    *,
    api_key: str | None = None,
    ca_cert: str | None = None,
    timeout_s: float = 60.0,
) -> Client:
    """A client of the server at `url`; nothing is sent yet.

    `ca_cert` is a PEM file with the authority to trust instead of the system's. UsageError for a
    URL, key or file that cannot be used.
    """
    endpoint = _endpoint(url, api_key, ca_cert, timeout_s)
    if api_key and not endpoint.encrypted and not _local(endpoint.host):
        logger.warning("the API key travels unencrypted to %s; https:// protects it", endpoint)
    if endpoint.scheme.startswith("grpc"):
        from rekindle.serve.client.grpc import GrpcClient

        return GrpcClient(endpoint)
    from rekindle.serve.client.rest import RestClient

    return RestClient(endpoint)


def _endpoint(url: str, api_key: str | None, ca_cert: str | None, timeout_s: float) -> Endpoint:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    extra: Sequence[str] = (parts.path.strip("/"), parts.query, parts.fragment)
    if not host or parts.scheme not in _PORTS or any(extra) or "@" in parts.netloc:
        # Not repeated whole: whoever wrote a password into it would find it on the screen.
        raise UsageError(
            "the server's URL cannot be used",
            hint="http://HOST:PORT, https://HOST:PORT, grpc://HOST:PORT or grpcs://HOST:PORT",
        )
    if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key):
        raise UsageError(
            "the API key is empty, or holds characters that no key has",
            hint="set REKINDLE_API_KEY to the key alone, without quotes or line ends",
        )
    if ca_cert is not None and parts.scheme in ("http", "grpc"):
        raise UsageError(
            f"--ca-cert says nothing about {parts.scheme}://, which is not encrypted",
            hint=f"use {parts.scheme}s://, or leave it out",
        )
    return Endpoint(parts.scheme, host, port or _PORTS[parts.scheme], api_key, ca_cert, timeout_s)


def _local(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
