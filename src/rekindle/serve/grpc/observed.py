"""Around every gRPC method: each call gets an id, and is told to the listeners."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc

from rekindle.serve.events import Listener
from rekindle.serve.observe import calls
from rekindle.serve.observe.calls import Call

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_READ = (calls.REQUEST_ID, "traceparent", "tracestate")
Metadata = Sequence[tuple[str, str | bytes]]


class Observed:
    """Tells a listener of calls. Wraps handlers once, when they are registered: an interceptor
    would cost every call a way of its own through gRPC.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def service(self, name: str, handlers: Mapping[str, Any]) -> grpc.GenericRpcHandler:
        """A service whose methods are observed."""
        wrapped = {
            method: self._wrap(f"/{name}/{method}", handler) for method, handler in handlers.items()
        }
        return grpc.method_handlers_generic_handler(name, wrapped)

    def unknown(self) -> grpc.GenericRpcHandler:
        """Registered last: it is asked for methods that no service has, and has none."""
        return _Unknown(self._told_unknown)

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
                # Told after this task's next steps, which send the answer.
                asyncio.get_running_loop().call_soon(self._end, call, context, error)
                calls.current.reset(token)

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

    def _told_unknown(self, details: Any) -> None:
        call = _begun(calls.OTHER, details.invocation_metadata, "")
        call.target = str(details.method)[:200]
        self._listener.call_began(call)
        call.status = "UNIMPLEMENTED"
        call.end()
        self._listener.call_done(call)


class _Unknown(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, told: Callable[[Any], None]) -> None:
        self._told = told

    def service(self, handler_call_details: Any) -> None:
        self._told(handler_call_details)


def _begun(name: str, metadata: Metadata | None, peer: str) -> Call:
    found = {key: value for key, value in metadata or () if key in _READ}
    given = {key: value for key, value in found.items() if isinstance(value, str)}
    return Call(
        "grpc",
        calls.request_id(given.pop(calls.REQUEST_ID, None)),
        name=name,
        target=name,
        client=host_of(peer),
        trace=given,
    )


def host_of(peer: str) -> str:
    """`ipv4:10.0.0.1:5000`, `ipv6:%5B::1%5D:5000`: the address alone; a port is no identity."""
    _, _, rest = peer.partition(":")
    return urllib.parse.unquote(rest).rpartition(":")[0].strip("[]")


def _number(code: Any) -> int:
    """grpc.aio gives a number, an enum's member, or None where the handler set nothing."""
    if code is None:
        return 0
    return int(code.value[0] if isinstance(code, grpc.StatusCode) else code)
