"""Around every gRPC method: each call gets an id, and is told to the listeners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc

from rekindle.serve.events import Listener
from rekindle.serve.observe import calls
from rekindle.serve.observe.calls import Call

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_READ = (calls.REQUEST_ID, "traceparent", "tracestate")
Metadata = Sequence[tuple[str, str | bytes]]


class Observed(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Put it first: then it sees what other interceptors refuse, too."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._wrapped: dict[str, tuple[Any, Any]] = {}

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        handler = await continuation(details)
        if handler is None:
            self._unknown(details)
            return None
        name = details.method
        found = self._wrapped.get(name)
        if found is None or found[0] is not handler:
            self._wrapped[name] = found = (handler, self._wrap(name, handler))
        return found[1]

    def _wrap(self, name: str, handler: Any) -> Any:
        """The handler of the same kind around this one; only kinds that the services have."""
        codecs = handler.request_deserializer, handler.response_serializer
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(self._stream(name, handler), *codecs)
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(name, handler), *codecs)
        return handler

    def _unary(self, name: str, handler: Any) -> Callable[[Any, Any], Awaitable[Any]]:
        inner = handler.unary_unary

        async def unary(request: Any, context: Any) -> Any:
            call, token = self._begin(name, context)
            error: BaseException | None = None
            try:
                return await inner(request, context)
            except BaseException as raised:
                error = raised
                raise
            finally:
                calls.current.reset(token)
                self._end(call, context, error)

        return unary

    def _stream(self, name: str, handler: Any) -> Callable[[Any, Any], AsyncIterator[Any]]:
        inner = handler.stream_stream

        async def stream(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            # Never reset: a generator may be ended in another context, and the task ends with it.
            call, _ = self._begin(name, context)
            error: BaseException | None = None
            try:
                async for response in inner(requests, context):
                    yield response
            except BaseException as raised:
                error = raised
                raise
            finally:
                self._end(call, context, error)

        return stream

    def _begin(self, name: str, context: Any) -> tuple[Call, Any]:
        call = _begun(name, context.invocation_metadata(), context.peer())
        context.set_trailing_metadata(((calls.REQUEST_ID, call.request_id),))
        token = calls.current.set(call)
        self._listener.call_began(call)
        return call, token

    def _end(self, call: Call, context: Any, error: BaseException | None) -> None:
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            call.status = "CANCELLED"
        else:
            call.status = _CODES.get(_number(context.code()), "UNKNOWN")
            if error is not None and call.status == "OK":
                call.status = "UNKNOWN"
        call.end()
        self._listener.call_done(call)

    def _unknown(self, details: Any) -> None:
        call = _begun(calls.OTHER, details.invocation_metadata, "")
        call.target = str(details.method)[:200]
        self._listener.call_began(call)
        call.status = "UNIMPLEMENTED"
        call.end()
        self._listener.call_done(call)


def _begun(name: str, metadata: Metadata | None, peer: str) -> Call:
    found = {key: value for key, value in metadata or () if key in _READ}
    given = {key: value for key, value in found.items() if isinstance(value, str)}
    return Call(
        "grpc",
        calls.request_id(given.pop(calls.REQUEST_ID, None)),
        name=name,
        target=name,
        client=_host(peer),
        trace=given,
    )


def _host(peer: str) -> str:
    """`ipv4:10.0.0.1:5000`, `ipv6:%5B::1%5D:5000`: the address alone."""
    kind, _, rest = peer.partition(":")
    if kind == "ipv6":
        return rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
    return rest.rpartition(":")[0]


def _number(code: Any) -> int:
    """grpc.aio gives a number, an enum's member, or None where the handler set nothing."""
    if code is None:
        return 0
    return int(code.value[0] if isinstance(code, grpc.StatusCode) else code)
