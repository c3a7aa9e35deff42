"""The calls of the inference service, and the server that answers them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from rekindle._errors import InputError, NotBuiltError, RateLimitError, RekindleError
from rekindle._log import logger
from rekindle.serve import control, describe
from rekindle.serve.access.gate import Gate, Need
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.grpc import codec, schema
from rekindle.serve.grpc.gate import admit, needed
from rekindle.serve.grpc.observed import Observed

SERVICE = "inference.GRPCInferenceService"
_STREAM_AHEAD = 64
"""Requests of one stream that are answered at the same time."""
_STREAMS = 1000
"""Calls of one connection at a time."""
_FRAMING_BYTES = 2**20
"""Room around the tensors of the largest message."""
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_StreamResponse = schema.message("inference.ModelStreamInferResponse")


class Service:
    """One method for each call of the protocol, named as there; request in, response out."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def ServerLive(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return {"live": True}

    async def ServerReady(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return {"ready": self._plane.ready}

    async def ModelReady(self, request: Any) -> dict[str, Any]:  # noqa: N802
        slot = self._plane.fleet.find(request.name, request.version)
        return {"ready": slot.ready and not self._plane.draining}

    async def ServerMetadata(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return describe.server(model_control=self._plane.settings.allow_model_control)

    async def ModelMetadata(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return describe.metadata(
            self._plane, *await self._plane.model(request.name, request.version)
        )

    async def ModelConfig(self, request: Any) -> dict[str, Any]:  # noqa: N802
        found = await self._plane.model(request.name, request.version)
        return {"config": describe.configuration(*found)}

    async def ModelStatistics(self, request: Any) -> dict[str, Any]:  # noqa: N802
        found = describe.statistics(self._plane, request.name, request.version)
        return {"model_stats": found}

    async def RepositoryIndex(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return {"models": describe.index(self._plane, only_ready=request.ready)}

    async def RepositoryModelLoad(self, request: Any) -> dict[str, Any]:  # noqa: N802
        parameters = codec.parameters_of(request.parameters)
        await control.load(self._plane, request.model_name, parameters)
        return {}

    async def RepositoryModelUnload(self, request: Any) -> dict[str, Any]:  # noqa: N802
        await control.unload(self._plane, request.model_name)
        return {}

    async def infer(self, sent: codec.Sent, context: Any) -> Any:
        """ModelInfer: the deadline is the client's, or that of its `timeout` parameter."""
        self._plane.admit(sent.message.model_name, sent.message.model_version)
        asked = codec.read_request(sent)
        left_s = context.time_remaining()
        if left_s is not None and asked.deadline is None:
            asked.deadline = time.monotonic() + left_s
        return codec.write_response(await self._plane.infer(asked))


def add_to(server: grpc.aio.Server, plane: DataPlane, gate: Gate) -> None:
    """Register both services on a server."""
    service = Service(plane)
    handlers = {}
    for name, request, response, streams in schema.methods(SERVICE):
        if streams:
            handlers[name] = grpc.stream_stream_rpc_method_handler(
                _stream(service, gate),
                response_serializer=response.SerializeToString,
            )
            continue
        if name == "ModelInfer":
            call: Unary = service.infer
            parse: Callable[[bytes], Any] = codec.parse
        else:
            call = _plain(getattr(service, name, None), name, response)
            parse = request.FromString
        handlers[name] = grpc.unary_unary_rpc_method_handler(
            _guarded(call, gate, needed(name), parse),
            response_serializer=response.SerializeToString,
        )
    observed = Observed(plane.listeners)
    server.add_generic_rpc_handlers(
        (
            observed.service(SERVICE, handlers),
            observed.service("grpc.health.v1.Health", {"Check": _health(plane)}),
            observed.unknown(),
        )
    )


def make_server(plane: DataPlane, gate: Gate) -> grpc.aio.Server:
    """A server without ports; messages may be as large as the settings allow."""
    size = plane.settings.max_request_bytes + _FRAMING_BYTES
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", -1),
            # Two servers on one port would share its clients without anybody noticing.
            ("grpc.so_reuseport", 0),
            # Past its own limits gRPC answers CANCELLED; a client that holds requests back knows
            # their deadlines, and what comes this far hears UNAVAILABLE from us.
            ("grpc.max_concurrent_streams", _STREAMS),
            ("grpc.server.max_pending_requests", 16 * _STREAMS),
            ("grpc.server.max_pending_requests_hard_limit", 16 * _STREAMS),
        ],
    )
    add_to(server, plane, gate)
    return server


Unary = Callable[[Any, Any], Awaitable[Any]]


def _plain(method: Callable[[Any], Awaitable[Any]] | None, name: str, response: Any) -> Unary:
    async def call(request: Any, context: Any) -> Any:
        if method is None:
            raise NotBuiltError(f"this server does not have {name}")
        return _filled(response, await method(request))

    return call


def _filled(response: Any, table: dict[str, Any]) -> Any:
    """A message from a dictionary; names of enum values become their numbers."""
    return response(**{key: _value(key, value) for key, value in table.items()})


def _value(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _value(k, v) for k, v in value.items()}
    if isinstance(value, list):
        return [_value(key, item) for item in value]
    return schema.enum_number("inference.DataType", value) if key == "data_type" else value


def _guarded(call: Unary, gate: Gate, need: Need, parse: Callable[[bytes], Any]) -> Unary:
    """Errors as status codes; a bug is INTERNAL and in the log, not in the answer.

    The message comes as bytes: who may not call must not make us read it, and what is no message
    is the caller's error, which gRPC itself would call INTERNAL.
    """

    async def guarded(data: bytes, context: Any) -> Any:
        try:
            admit(gate, need, context)
            with gate.inflow.hold(len(data)):
                return await call(_read(parse, data), context)
        except RekindleError as error:
            code = _CODES.get(error.http_status, grpc.StatusCode.INTERNAL)
            await context.abort(code, str(error), _trailer(error, context))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.error("a gRPC call failed", exc_info=error)
            await context.abort(grpc.StatusCode.INTERNAL, "internal error; see the server's log")

    return guarded


def _read(parse: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return parse(data)
    except DecodeError:
        raise InputError("the message is none of this method") from None


def _trailer(error: RekindleError, context: Any) -> tuple[tuple[str, str], ...]:
    """What HTTP says in Retry-After; empty leaves the trailers that are set as they are."""
    if isinstance(error, RateLimitError):
        return (*(context.trailing_metadata() or ()), ("retry-after", str(error.retry_after_s)))
    return ()


def _stream(service: Service, gate: Gate) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def one(data: bytes, context: Any) -> Any:
        identity = ""
        try:
            admit(gate, "infer", context)  # each request of a stream counts
            with gate.inflow.hold(len(data)):
                request = _read(codec.parse, data)
                identity = request.message.id
                return _StreamResponse(infer_response=await service.infer(request, context))
        except RekindleError as error:
            failed = _StreamResponse(error_message=str(error))
            failed.infer_response.id = identity
            return failed

    async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        """Answers in the order of the requests, several of which are worked on at a time."""
        running: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue(_STREAM_AHEAD)

        async def read() -> None:
            try:
                async for data in requests:
                    await running.put(asyncio.create_task(one(data, context)))
            finally:
                await running.put(None)

        reader = asyncio.create_task(read())
        try:
            while (task := await running.get()) is not None:
                yield await task
        finally:
            reader.cancel()
            while not running.empty():
                if (left := running.get_nowait()) is not None:
                    left.cancel()

    return stream


def _health(plane: DataPlane) -> grpc.RpcMethodHandler:
    response = schema.message("grpc.health.v1.HealthCheckResponse")
    request = schema.message("grpc.health.v1.HealthCheckRequest")

    async def check(sent: Any, context: Any) -> Any:
        if sent.service not in ("", SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {sent.service}")
        return response(status="SERVING" if plane.ready else "NOT_SERVING")

    return grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=request.FromString,
        response_serializer=response.SerializeToString,
    )
