"""Inference requests and responses as HTTP bodies: JSON, with the tensors in it or behind it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from rekindle._errors import InputError
from rekindle.graph.ir import Array
from rekindle.serve.messages import (
    InferRequest,
    InferResponse,
    deadline_of,
    priority_of,
    refuse_unsupported,
)
from rekindle.serve.tensors import datatype_of, from_raw, from_values, to_raw, to_values

HEADER_LENGTH = "Inference-Header-Content-Length"
JSON = "application/json"
BINARY = "application/octet-stream"


class TooLargeError(InputError):
    """The body is larger than the server takes."""

    http_status = 413


@dataclass(frozen=True)
class Wish:
    """How a client wants an output: in JSON or as bytes behind it."""

    everything_binary: bool
    binary: Mapping[str, bool]

    def wants_binary(self, name: str) -> bool:
        return self.binary.get(name, self.everything_binary)


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, unpacked where it is compressed; TooLargeError beyond `limit` bytes."""
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLargeError(f"the body is larger than {limit:,} bytes")
        parts.append(chunk)
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    return body if encoding == "identity" else _unpacked(body, encoding, limit)


def read_json(body: bytes | memoryview) -> dict[str, Any]:
    """A JSON object; InputError says what else it is."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InputError("the body is no JSON object", hint='send {"inputs": [...]}')
    return document


def read_request(
    model: str, version: str, body: bytes, header_length: str | None
) -> tuple[InferRequest, Wish]:
    """The request in a body; InputError says what is wrong with it."""
    document, blob = _split(body, header_length)
    inputs, at = {}, 0
    for item in _tables(document, "inputs"):
        name = _text(item, "name")
        size = _parameters(item).get("binary_data_size")
        if name in inputs:
            raise InputError(f"input {name} is there twice")
        if size is None:
            inputs[name] = _from_json(name, item)
            continue
        if type(size) is not int or not 0 <= size <= len(blob) - at:
            raise InputError(
                f"input {name}: binary_data_size = {size!r}, but {len(blob) - at:,} bytes are left"
            )
        data = blob[at : at + size]
        inputs[name] = from_raw(name, _text(item, "datatype"), item.get("shape", []), data)
        at += size
    if at != len(blob):
        raise InputError(f"{len(blob) - at:,} bytes behind the JSON belong to no input")
    parameters = _parameters(document)
    refuse_unsupported(parameters)
    outputs = _tables(document, "outputs") if document.get("outputs") is not None else []
    identity = document.get("id", "")
    if not isinstance(identity, str):
        raise InputError(f"id = {identity!r} is no text")
    request = InferRequest(
        model,
        inputs,
        version,
        outputs=tuple(_text(item, "name") for item in outputs),
        id=identity,
        parameters=parameters,
        priority=priority_of(parameters),
        deadline=deadline_of(parameters),
    )
    return request, _wish(parameters, outputs)


def write_response(response: InferResponse, wish: Wish) -> Response:
    """The HTTP response: JSON, or JSON and the bytes of those outputs that are wanted so."""
    blobs: list[bytes] = []
    outputs = []
    for name, array in response.outputs.items():
        item: dict[str, Any] = {
            "name": name,
            "datatype": datatype_of(array),
            "shape": list(array.shape),
        }
        if wish.wants_binary(name):
            blobs.append(to_raw(array))
            item["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            item["data"] = to_values(array)
        outputs.append(item)
    document: dict[str, Any] = {"model_name": response.model, "model_version": response.version}
    if response.id:
        document["id"] = response.id
    head = dumps(document | {"outputs": outputs})
    if not blobs:
        return Response(head, media_type=JSON)
    headers = {HEADER_LENGTH: str(len(head))}
    return Response(b"".join((head, *blobs)), headers=headers, media_type=BINARY)


def dumps(document: Mapping[str, Any]) -> bytes:
    """JSON; arrays are written as flat lists, half-precision ones widened first."""
    return orjson.dumps(document, default=_default, option=orjson.OPT_SERIALIZE_NUMPY)


def _default(value: object) -> Any:
    tolist = getattr(value, "tolist", None)
    if tolist is None:
        raise TypeError
    return tolist()


def _split(body: bytes, header_length: str | None) -> tuple[dict[str, Any], memoryview]:
    view = memoryview(body)
    if header_length is None:
        return read_json(view), view[:0]
    if not header_length.isascii() or not header_length.isdigit() or len(header_length) > 12:
        raise InputError(f"{HEADER_LENGTH}: {header_length[:20]!r} is no length")
    length = int(header_length)
    if length > len(body):
        raise InputError(f"{HEADER_LENGTH} says {length:,} bytes, the body has {len(body):,}")
    return read_json(view[:length]), view[length:]


def _from_json(name: str, item: Mapping[str, Any]) -> Array:
    refuse_unsupported(_parameters(item))
    if "data" not in item:
        raise InputError(f"input {name} has no data", hint="data, or binary_data_size")
    return from_values(name, _text(item, "datatype"), item.get("shape", []), item["data"])


def _wish(parameters: Mapping[str, Any], outputs: list[dict[str, Any]]) -> Wish:
    own = {}
    for item in outputs:
        wanted = _parameters(item)
        refuse_unsupported(wanted)
        if "binary_data" in wanted:
            own[_text(item, "name")] = bool(wanted["binary_data"])
    return Wish(bool(parameters.get("binary_data_output")), own)


def _tables(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    values = document.get(key)
    if not isinstance(values, list) or not all(isinstance(v, dict) for v in values):
        raise InputError(f"the body has no list of objects {key!r}", hint=f'"{key}": [{{...}}]')
    return values


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value:
        raise InputError(f"an entry has no {key}", hint=f"{key} is a text")
    return value


def _parameters(item: Mapping[str, Any]) -> dict[str, Any]:
    value = item.get("parameters")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError("parameters is no object")
    return value


def _unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """Gzip or deflate, unpacked no further than the limit: a small body can unpack to anything."""
    if encoding not in ("gzip", "deflate"):
        raise InputError(f"content-encoding {encoding[:20]!r} is not known", hint="gzip or deflate")
    decoder = zlib.decompressobj(31 if encoding == "gzip" else 15)
    try:
        plain = decoder.decompress(body, limit + 1)
    except zlib.error as error:
        raise InputError(f"the body is not {encoding}: {error}") from None
    if len(plain) > limit:
        raise TooLargeError(f"the unpacked body is larger than {limit:,} bytes")
    if not decoder.eof:
        raise InputError(f"the {encoding} body ends too early")
    return plain
