"""Routes for people: plain JSON in and out, photos, and what a small lab looks at."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from fastapi import APIRouter
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response

from rekindle._errors import InputError, NotFoundError
from rekindle.graph.ir import Array
from rekindle.serve import control, describe
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.fleet import Slot
from rekindle.serve.instance import Instance
from rekindle.serve.messages import InferRequest, deadline_of, priority_of
from rekindle.serve.photos import PhotoReaders
from rekindle.serve.rest import schemas
from rekindle.serve.rest.body import JSON, TooLargeError, dumps, read_body, read_json
from rekindle.serve.rest.v2 import answer, while_connected
from rekindle.serve.tensors import DATATYPES, from_values

_LEFT = 499


def router(plane: DataPlane) -> APIRouter:
    """The friendly routes."""
    routes = APIRouter(tags=["Friendly"])
    _predict(routes, plane)
    _classify(routes, plane)
    _models(routes, plane)
    return routes


def _predict(routes: APIRouter, plane: DataPlane) -> None:
    @routes.post(
        "/predict",
        summary="Run a model on JSON",
        responses=schemas.INFER,
        openapi_extra=schemas.body(schemas.PREDICT, required=True),
    )
    async def predict(request: Request) -> Response:
        plane.admit()
        start = time.perf_counter()
        document = read_json(await read_body(request, plane.settings.max_request_bytes))
        name = _text(document, "model") or _only(plane)
        slot, instance = await plane.model(name, _text(document, "version"))
        parameters = document.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise InputError("parameters is no object")
        asked = InferRequest(
            name,
            _inputs(instance, document.get("inputs")),
            slot.entry.version,
            parameters=parameters,
            priority=priority_of(parameters),
            deadline=deadline_of(parameters),
        )
        done = await while_connected(request, plane.infer(asked))
        if done is None:
            return Response(status_code=_LEFT)
        return answer(
            {
                "model": done.model,
                "version": done.version,
                "outputs": {n: _nested(array) for n, array in done.outputs.items()},
                "ms": (time.perf_counter() - start) * 1e3,
            }
        )


def _classify(routes: APIRouter, plane: DataPlane) -> None:
    readers = PhotoReaders()

    @routes.post(
        "/classify",
        summary="Name what a photo shows",
        responses=schemas.INFER,
        openapi_extra=schemas.body(schemas.CLASSIFY, "multipart/form-data", required=True),
    )
    async def classify(request: Request) -> Response:
        plane.admit()
        start = time.perf_counter()
        form = await _form(request, plane.settings.max_request_bytes)
        photo, top = form.get("photo"), _top(form.get("top", "5"))
        if not isinstance(photo, bytes):
            raise InputError("there is no photo", hint="curl -F photo=@FILE .../classify")
        name, precision = form.get("model", ""), form.get("precision", "")
        if not isinstance(name, str) or not isinstance(precision, str):
            raise InputError("model or precision is no text")
        named = await readers.classify(
            plane, photo, name, precision=precision, top=top,
            infer=lambda asked: while_connected(request, plane.infer(asked)),
        )  # fmt: skip
        if named is None:
            return Response(status_code=_LEFT)
        return answer(
            {
                "model": named.model,
                "version": named.version,
                "labels": [
                    {"name": x.name, "index": x.index, "score": x.score} for x in named.labels
                ],
                "precision": precision or plane.settings.precision,
                "placement": named.placement,
                "run_ms": named.run_s * 1e3,
                "ms": (time.perf_counter() - start) * 1e3,
            }
        )


def _models(routes: APIRouter, plane: DataPlane) -> None:
    @routes.get("/models", summary="The models, and how each is served", responses=schemas.OK)
    async def models() -> Response:
        return answer({"models": [_model(plane, slot) for slot in plane.fleet.slots()],
                       "unavailable": [
                           {"name": name, "version": version, "reason": reason}
                           for name, version, reason in plane.fleet.unavailable()
                       ]})  # fmt: skip

    @routes.post(
        "/models/load",
        summary="Load or reload a model",
        responses=schemas.CONTROL,
        openapi_extra=schemas.body(schemas.NAME, required=True),
    )
    async def load(request: Request) -> Response:
        control.permit(plane)
        document = read_json(await read_body(request, plane.settings.max_request_bytes))
        name = _text(document, "name")
        if not name:
            raise InputError("there is no name", hint='send {"name": "..."}')
        await control.load(plane, name, {})
        return answer({"models": [_model(plane, slot) for slot in plane.fleet.versions(name)]})

    @routes.delete("/models/{name}", summary="Stop serving a model", responses=schemas.CONTROL)
    async def unload(name: str) -> Response:
        await control.unload(plane, name)
        return answer({"name": name, "state": "UNLOADED"})

    @routes.get("/health", summary="How the server is", responses=schemas.READY)
    async def health() -> Response:
        body = dumps(describe.health(plane))
        return Response(body, 200 if plane.ready else 503, media_type=JSON)


def _model(plane: DataPlane, slot: Slot) -> dict[str, Any]:
    """One served version, for people."""
    entry, (state, reason) = slot.entry, slot.state
    table: dict[str, Any] = {
        "name": entry.name,
        "version": entry.version,
        "state": state,
        "reason": reason,
        "task": entry.card.task if entry.card else None,
        "loaded": slot.instance is not None,
    }
    instance = slot.instance
    if instance is None:
        return table
    opened = instance.opened
    return table | {
        "bytes": plane.fleet.budget.holding(slot.key).nbytes,
        "placement": opened.placement,
        "inputs": [str(spec) for spec in opened.inputs],
        "outputs": [str(spec) for spec in opened.outputs],
        "max_batch": instance.max_batch,
        "batching": opened.batch_reason,
        "queued": instance.queued,
    }


def _inputs(instance: Instance, given: Any) -> dict[str, Array]:
    """Arrays from nested lists, by the dtypes of the model's inputs."""
    specs = instance.opened.inputs
    if isinstance(given, list) and len(specs) == 1:
        given = {specs[0].name: given}
    if not isinstance(given, dict):
        names = ", ".join(spec.name for spec in specs)
        raise InputError(
            "inputs is no object of nested lists", hint=f'"inputs": {{name: [...]}}; names: {names}'
        )
    arrays = {}
    for spec in specs:
        if spec.name in given:
            values = given[spec.name]
            shape = _shape(spec.name, values)
            arrays[spec.name] = from_values(spec.name, DATATYPES[spec.dtype], shape, values)
    for name in given:
        # Unknown names reach the data plane, whose error says what there is.
        arrays.setdefault(name, np.zeros(0, np.float32))
    return arrays


def _shape(name: str, values: Any) -> tuple[int, ...]:
    try:
        return np.shape(values)
    except ValueError:
        raise InputError(f"input {name}: the lists are not nested evenly") from None


def _nested(array: Array) -> Any:
    if array.dtype.kind in "USO":
        return array.tolist()
    return np.ascontiguousarray(array)


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key) or ""
    if not isinstance(value, str):
        raise InputError(f"{key} is no text")
    return value


def _top(value: Any) -> int:
    if not (isinstance(value, str) and value.isascii() and value.isdigit() and 0 < len(value) < 6):
        raise InputError(f"top = {str(value)[:20]!r} is no number of labels")
    return max(int(value), 1)


def _only(plane: DataPlane) -> str:
    names = {slot.entry.name for slot in plane.fleet.slots()}
    if len(names) == 1:
        return names.pop()
    raise NotFoundError(
        "the request names no model", hint=f'"model": one of {", ".join(sorted(names)) or "none"}'
    )


async def _form(request: Request, limit: int) -> dict[str, str | bytes]:
    """The fields of a form, files as bytes; TooLargeError before more than `limit` is read."""
    length = request.headers.get("content-length", "")
    if not length.isdigit():
        raise InputError("a form without Content-Length", hint="curl sends one")
    if int(length) > limit:
        raise TooLargeError(f"the body is larger than {limit:,} bytes")
    fields: dict[str, str | bytes] = {}
    try:
        async with request.form(max_files=1, max_fields=8) as form:
            for key, value in form.items():
                fields[key] = await value.read() if isinstance(value, UploadFile) else value
    except MultiPartException as error:
        raise InputError(f"the form cannot be read: {error.message}") from None
    return fields
