"""Protobuf's encoding, as far as large tensors need it: they are cut out before it is parsed.

Protobuf would copy the bytes of a tensor into its own memory, and again for Python.
"""

from __future__ import annotations

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types; groups (3 and 4) are of another age."""
_MOST = 256
"""Fields that are looked at: past them Python would take longer than protobuf's copies."""


def cut(data: bytes, field: int) -> tuple[bytes, list[memoryview]]:
    """A message without the `bytes` fields of one number, and what those hold, as views.

    Where the encoding is damaged, or beyond what is read here, all of `data` and no views: then
    protobuf reads it, or says what is wrong.
    """
    wanted = field << 3 | _BYTES
    view = memoryview(data)
    found: list[memoryview] = []
    rest: list[memoryview] = []
    at = 0
    for _ in range(_MOST):
        if at == len(data):
            return b"".join(rest), found
        start = at
        tag, at = _varint(data, at)
        kind = tag & 7
        size = 0
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind == _VARINT:
            _, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            break
        if at < 0 or at + size > len(data):
            break
        if tag == wanted:
            found.append(view[at : at + size])
        else:
            rest.append(view[start : at + size])
        at += size
    return data, []


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of at most ten bytes, and where it ends; -1 where it does not end."""
    value = 0
    if at < 0:
        return value, at
    for shift, byte in zip(range(0, 70, 7), data[at : at + 10], strict=False):
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return value, -1
