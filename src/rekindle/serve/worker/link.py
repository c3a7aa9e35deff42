"""Messages between the server and a worker process: JSON with a length before it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import orjson

from rekindle import _errors
from rekindle._errors import RekindleError

_LENGTH = struct.Struct("<I")


def encode(message: dict[str, Any]) -> bytes:
    body = orjson.dumps(message)
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Bytes in, whole messages out."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        self._pending += data
        while len(self._pending) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._pending)
            end = _LENGTH.size + length
            if len(self._pending) < end:
                return
            body = bytes(self._pending[_LENGTH.size : end])
            del self._pending[:end]
            yield orjson.loads(body)


def messages(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Every message until the other side is gone."""
    decoder = Decoder()
    while data := connection.recv(65536):
        yield from decoder.feed(data)


def pack_error(error: Exception) -> dict[str, Any]:
    """An error as data; what is none of ours keeps its name in the message."""
    if isinstance(error, RekindleError):
        return {"type": type(error).__name__, "message": error.message, "hint": error.hint}
    return {"type": "RekindleError", "message": f"{type(error).__name__}: {error}", "hint": None}


def unpack_error(table: dict[str, Any]) -> RekindleError:
    """The error again, of the same class where it is one of the family."""
    found = getattr(_errors, str(table["type"]), RekindleError)
    known = isinstance(found, type) and issubclass(found, RekindleError)
    made: RekindleError = (found if known else RekindleError)(
        str(table["message"]), hint=table["hint"]
    )
    return made
