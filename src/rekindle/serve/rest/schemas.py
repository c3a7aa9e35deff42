"""The parts of the OpenAPI document that FastAPI cannot read from a signature."""

from __future__ import annotations

from typing import Any

ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string"},
        "parameters": {"type": "object"},
        "data": {"type": "array", "description": "row-major, flat or nested"},
    },
}
_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {
            "type": "object",
            "description": "priority (1 to 9), timeout (microseconds), binary_data_output",
        },
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
            },
        },
    },
}
INDEX = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
LOAD = {"type": "object", "properties": {"parameters": {"type": "object"}}}


def failing(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses of those statuses, in the protocol's error form."""
    content = {"application/json": {"schema": ERROR}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


_MEANINGS = {
    400: "the request is wrong",
    401: "no API key, or a wrong one",
    403: "not allowed",
    404: "no such model or version",
    413: "the body is too large",
    422: "the model cannot be used",
    429: "too many requests of one caller",
    501: "not built",
    503: "full, loading, or shutting down",
    504: "the deadline passed",
    507: "the model does not fit into the memory budget",
}
OK = failing(400)
READY: dict[int | str, dict[str, Any]] = {
    **failing(404),
    503: {"description": "not ready", "content": {"application/json": {}}},
}
MODEL = failing(400, 404, 422, 503, 507)
INFER = failing(400, 404, 413, 422, 503, 504, 507)
CONTROL = failing(400, 403, 404, 413, 422, 503, 507)


PREDICT = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "model": {"type": "string", "description": "may be left out where one model is served"},
        "version": {"type": "string"},
        "inputs": {"description": "nested lists by input name; a list where there is one input"},
        "parameters": {"type": "object", "description": "priority (1 to 9), timeout (µs)"},
    },
}
CLASSIFY = {
    "type": "object",
    "required": ["photo"],
    "properties": {
        "photo": {"type": "string", "format": "binary"},
        "model": {"type": "string"},
        "precision": {"type": "string", "description": "one that the server offers"},
        "top": {"type": "integer", "minimum": 1, "maximum": 99999},
    },
}
NAME = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


def body(
    schema: dict[str, Any], media: str = "application/json", *, required: bool = False
) -> dict[str, Any]:
    return {"requestBody": {"required": required, "content": {media: {"schema": schema}}}}


def infer_request(*, versioned: bool) -> dict[str, Any]:
    """An inference call: path parameters and body, read from the raw request for speed."""
    names = ("name", "version") if versioned else ("name",)
    parameters = [
        {"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names
    ]
    return body(_REQUEST, required=True) | {"parameters": parameters}
