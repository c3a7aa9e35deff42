"""Tensor specifications from what a server says of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rekindle._errors import UnreachableError
from rekindle._types import TensorSpec
from rekindle.graph.ir import Array, dtype_of
from rekindle.serve.tensors import dtype_named


def specs_of(tensors: Iterable[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    """From the protocol's metadata. A dynamic dimension, which has no name there, is called N
    where it is the first, and after its place otherwise: D1, D2.
    """
    try:
        return tuple(
            TensorSpec(
                tensor["name"],
                dtype_named(tensor["datatype"]),
                tuple(d if d >= 0 else (f"D{k}" if k else "N")
                      for k, d in enumerate(map(int, tensor["shape"]))),
            )
            for tensor in tensors
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise UnreachableError(f"the server's metadata cannot be read: {error!r}") from None


def spec_of(name: str, array: Array) -> TensorSpec:
    """The specification that an array fulfils."""
    return TensorSpec(name, dtype_of(array), array.shape)
