"""The protocol's messages, made at import from compiled descriptors.

Generated Python code would tie the server to one major version of protobuf, and would clash in
one process with a client that brings its own copy of the same package (tritonclient does). A
descriptor in a pool of our own does neither: it works with protobuf 5, 6 and 7 alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_pool = descriptor_pool.DescriptorPool()


def _add(name: str) -> None:
    data = (resources.files(__package__) / name).read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        _pool.Add(file)


_add("inference.binpb")
_add("health.binpb")


def message(name: str) -> Any:
    """The class of a message, by its full name: `inference.ModelInferRequest`."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(name))


def methods(service: str) -> Iterator[tuple[str, Any, Any, bool]]:
    """Name, request class, response class, whether it streams, for each call of a service."""
    for method in _pool.FindServiceByName(service).methods:
        request, response = method.input_type.full_name, method.output_type.full_name
        yield method.name, message(request), message(response), method.client_streaming


def enum_number(enum: str, name: str) -> int:
    """The number of an enum's value, by the enum's full name."""
    return int(_pool.FindEnumTypeByName(enum).values_by_name[name].number)
