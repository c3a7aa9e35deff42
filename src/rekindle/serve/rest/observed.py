"""Around the whole HTTP application: every call gets an id, and is told to the listeners."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rekindle.serve.events import Listener
from rekindle.serve.observe import calls
from rekindle.serve.observe.calls import Call

_READ = (b"x-request-id", b"traceparent", b"tracestate", b"content-length")
_LEFT = "499"
"""nginx's status for a client that closed the connection before there was an answer."""


class Observed:
    """An ASGI application that is `app`, observed."""

    def __init__(self, app: ASGIApp, listener: Listener) -> None:
        self._app = app
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = _begun(scope)
        header = (b"x-request-id", call.request_id.encode("ascii"))

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = str(message["status"])
                message["headers"] = [*message.get("headers", ()), header]
            elif message["type"] == "http.response.body":
                call.bytes_out += len(message.get("body", b""))
            await send(message)

        token = calls.current.set(call)
        self._listener.call_began(call)
        try:
            await self._app(scope, receive, sending)
        except Exception:
            call.status = call.status or "500"
            raise
        finally:
            calls.current.reset(token)
            call.status = call.status or _LEFT
            call.name = getattr(scope.get("route"), "path", None) or calls.OTHER
            call.end()
            self._listener.call_done(call)


def _begun(scope: Scope) -> Call:
    found = {
        name.decode("ascii"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in _READ
    }
    length = found.get("content-length", "")
    return Call(
        "http",
        calls.request_id(found.get("x-request-id")),
        method=scope["method"],
        target=scope.get("raw_path", b"").decode("ascii", "replace"),
        client=(scope.get("client") or ("",))[0],
        trace={key: found[key] for key in ("traceparent", "tracestate") if key in found},
        bytes_in=int(length) if length.isdigit() and len(length) < 16 else 0,
    )
