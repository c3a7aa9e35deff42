"""The Open Inference Protocol v2 over HTTP, with the extensions that Triton made usual."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from rekindle._errors import InputError, NotBuiltError
from rekindle.serve import control, describe
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.rest import schemas
from rekindle.serve.rest.body import (
    HEADER_LENGTH,
    JSON,
    dumps,
    read_body,
    read_json,
    read_request,
    write_response,
)

T = TypeVar("T")
_UNTIL_WATCHED_S = 0.05
"""Only a request that takes longer than this is worth watching for a client that left."""
CLIENT_LEFT = 499
"""nginx's status for a client that closed the connection; nobody reads it."""


def answer(document: Any) -> Response:
    return Response(dumps(document), media_type=JSON)


def router(plane: DataPlane) -> APIRouter:
    """Every route below /v2."""
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"])
    _server_routes(routes, plane)
    _model_routes(routes, plane)
    _infer_routes(routes, plane)
    _repository_routes(routes, plane)
    for path in ("systemsharedmemory", "cudasharedmemory", "trace", "logging"):
        _not_built(routes, path)
    return routes


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; None where the client left before, and `work` was cancelled."""
    loop = asyncio.get_running_loop()
    here, left = asyncio.current_task(), False
    watching: list[asyncio.Task[None]] = []

    async def watch() -> None:
        nonlocal left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left = True
        assert here is not None
        here.cancel()

    # Most requests are done before this: they pay for a timer, not for a task.
    timer = loop.call_later(_UNTIL_WATCHED_S, lambda: watching.append(loop.create_task(watch())))
    try:
        return await work
    except asyncio.CancelledError:
        if not left:
            raise
        assert here is not None
        here.uncancel()
        return None
    finally:
        timer.cancel()
        for task in watching:
            task.cancel()


def _server_routes(routes: APIRouter, plane: DataPlane) -> None:
    @routes.get("", summary="Server metadata", responses=schemas.OK)
    async def server() -> Response:
        return answer(describe.server(model_control=plane.settings.allow_model_control))

    @routes.get("/health/live", summary="Whether the server runs", responses=schemas.OK)
    async def live() -> Response:
        return answer({"live": True})

    @routes.get("/health/ready", summary="Whether requests should come", responses=schemas.READY)
    async def ready() -> Response:
        status = 200 if plane.ready else 503
        return Response(dumps({"ready": plane.ready}), status, media_type=JSON)

    @routes.get("/models/stats", summary="Statistics of all models", responses=schemas.OK)
    async def statistics() -> Response:
        return answer({"model_stats": describe.statistics(plane)})


def _model_routes(routes: APIRouter, plane: DataPlane) -> None:
    async def metadata(name: str, version: str = "") -> Response:
        return answer(describe.metadata(plane, *await plane.model(name, version)))

    async def ready(name: str, version: str = "") -> Response:
        slot = plane.fleet.find(name, version)
        good = slot.ready and not plane.draining
        body = dumps({"name": name, "ready": good})
        return Response(body, 200 if good else 503, media_type=JSON)

    async def config(name: str, version: str = "") -> Response:
        return answer(describe.configuration(*await plane.model(name, version)))

    async def statistics(name: str, version: str = "") -> Response:
        return answer({"model_stats": describe.statistics(plane, name, version)})

    for call, path, summary in (
        (metadata, "", "Model metadata"),
        (ready, "/ready", "Whether a model is ready"),
        (config, "/config", "Model configuration"),
        (statistics, "/stats", "Model statistics"),
    ):
        for prefix in ("/models/{name}", "/models/{name}/versions/{version}"):
            responses = schemas.READY if call is ready else schemas.MODEL
            routes.add_api_route(
                prefix + path, _pathed(call, prefix), summary=summary, responses=responses
            )


def _pathed(call: Any, prefix: str) -> Any:
    """The call with exactly the parameters its path has: others would become query parameters."""
    if "version" in prefix:

        async def versioned(name: str, version: str) -> Response:
            response: Response = await call(name, version)
            return response

        return versioned

    async def newest(name: str) -> Response:
        response: Response = await call(name)
        return response

    return newest


async def infer(plane: DataPlane, request: Request) -> Response:
    """Inference: the raw body in, for speed, the raw body out."""
    path = request.path_params
    name, version = path["name"], path.get("version", "")
    plane.admit(name, version)
    body = await read_body(request, plane.settings.max_request_bytes)
    asked, wish = read_request(name, version, body, request.headers.get(HEADER_LENGTH))
    response = await while_connected(request, plane.infer(asked))
    if response is None:
        return Response(status_code=CLIENT_LEFT)
    return write_response(response, wish)


def _infer_routes(routes: APIRouter, plane: DataPlane) -> None:
    """For the API's description; `direct` answers them before they are looked for."""

    async def inference(request: Request) -> Response:
        return await infer(plane, request)

    for prefix in ("/models/{name}", "/models/{name}/versions/{version}"):
        routes.add_api_route(
            f"{prefix}/infer",
            inference,
            methods=["POST"],
            summary="Inference",
            responses=schemas.INFER,
            openapi_extra=schemas.infer_request(versioned="version" in prefix),
            operation_id="infer_version" if "version" in prefix else "infer",
        )


def _repository_routes(routes: APIRouter, plane: DataPlane) -> None:
    limit = plane.settings.max_request_bytes

    async def document(request: Request) -> dict[str, Any]:
        body = await read_body(request, limit)
        return read_json(body) if body else {}

    @routes.post(
        "/repository/index",
        summary="Models of the repository",
        responses=schemas.OK,
        openapi_extra=schemas.body(schemas.INDEX),
    )
    async def index(request: Request) -> Response:
        only_ready = (await document(request)).get("ready", False)
        if not isinstance(only_ready, bool):
            raise InputError(f"ready = {only_ready!r} is neither true nor false")
        return answer(describe.index(plane, only_ready=only_ready))

    @routes.post(
        "/repository/models/{name}/load",
        summary="Load or reload a model",
        responses=schemas.CONTROL,
        openapi_extra=schemas.body(schemas.LOAD),
    )
    async def load(name: str, request: Request) -> Response:
        control.permit(plane)
        parameters = (await document(request)).get("parameters") or {}
        await control.load(plane, name, parameters)
        return Response(status_code=200)

    @routes.post(
        "/repository/models/{name}/unload",
        summary="Stop serving a model",
        responses=schemas.CONTROL,
        openapi_extra=schemas.body(schemas.LOAD),
    )
    async def unload(name: str, request: Request) -> Response:
        await document(request)
        await control.unload(plane, name)
        return Response(status_code=200)


def _not_built(routes: APIRouter, what: str) -> None:
    """Extensions that are not announced: clients ask all the same, and get a clear answer."""

    async def refuse(rest: str = "") -> Response:
        raise NotBuiltError(f"this server does not have the {what} extension")

    for path in (f"/{what}", f"/{what}/{{rest:path}}"):
        routes.add_api_route(path, refuse, methods=["GET", "POST"], include_in_schema=False)
    if what == "trace":
        path = "/models/{rest}/trace/setting"
        routes.add_api_route(path, refuse, methods=["GET", "POST"], include_in_schema=False)
