"""The gate before the HTTP routes: pure ASGI, so that a request that passes costs nothing more."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from rekindle._errors import ForbiddenError, RekindleError
from rekindle.serve.access.gate import Gate, Need
from rekindle.serve.rest.errors import respond

_RULES: tuple[tuple[str, str, Need], ...] = (
    ("GET", r"/v2/health/(live|ready)", "open"),
    ("GET", r"/metrics", "metrics"),
    ("POST", r"/v2/repository/models/.*", "admin"),
    ("POST", r"/models/load", "admin"),
    ("DELETE", r"/.*", "admin"),
    ("GET", r"/health|/models|/docs|/openapi\.json", "look"),
    ("GET", r"/v2(/models/.*)?", "look"),
    ("POST", r"/v2/repository/index", "look"),
    # A page is a hundred small files; what is done on it is asked for when it is done.
    ("POST", r"/web/[a-z]+/gradio_api/upload", "infer"),
    ("GET", r"/|/web(/.*)?", "page"),
    ("POST", r"/web/.*", "page"),
)
_COMPILED = [(method, re.compile(pattern, re.DOTALL), need) for method, pattern, need in _RULES]
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class GateMiddleware:
    """Answers 401, 403 or 429 itself; what may pass goes on with `scope["rekindle.caller"]`."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate
        self._most = gate.max_request_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            scope["rekindle.caller"] = self._admit(scope)
            with self._gate.inflow.hold(self._length(scope)):
                await self._app(scope, receive, send)
        except RekindleError as error:  # ours: the application answers its own
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await respond(error)(scope, receive, send)

    def _length(self, scope: Scope) -> int:
        """Bytes of the body; the most there may be where the caller does not say."""
        if scope["type"] == "websocket" or scope["method"] in _SAFE:
            return 0
        found = next((v for k, v in scope["headers"] if k == b"content-length"), b"")
        length = int(found) if found.isdigit() and len(found) < 16 else self._most
        return min(length, self._most)

    def _admit(self, scope: Scope) -> str:
        wanted = {b"authorization", b"x-api-key", b"origin", b"host"}
        headers = {k: v.decode("latin-1") for k, v in scope["headers"] if k in wanted}
        method = scope.get("method", "GET")
        if "websocket" in scope["type"] or method not in _SAFE:
            _check_origin(headers.get(b"origin"), headers.get(b"host"))
        if not self._gate.asks:
            return ""
        need = needed(method, scope["path"])
        key = presented({k.decode(): v for k, v in headers.items()})
        return self._gate.admit(need, key, (scope.get("client") or ("",))[0])


def needed(method: str, path: str) -> Need:
    """What a call needs; what no rule names, pages of other rooms among it, needs `infer`."""
    for known, pattern, need in _COMPILED:
        if known == method and pattern.fullmatch(path):
            return need
    return "infer"


def presented(headers: Mapping[str, str]) -> str | None:
    """The key of `X-API-Key`, of `Bearer KEY`, or the password of `Basic`, which is what a
    browser asks for.
    """
    if key := headers.get("x-api-key"):
        return key
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(value.strip(), validate=True).decode("latin-1").partition(":")[2]
    except ValueError:  # not ASCII, not Base64
        return None


def _check_origin(origin: str | None, host: str | None) -> None:
    """A page from elsewhere must not act through its reader's browser.

    Browsers name the page's origin in every call that changes something; programs name none.
    """
    if origin is not None and urlsplit(origin).netloc.lower() != (host or "").lower():
        raise ForbiddenError(
            f"a page of {origin[:80]!r} may not call this server",
            hint="a proxy in front must pass the Host header on",
        )
