"""Attributes, read with their types checked: a model file may hold anything."""

from __future__ import annotations

from typing import Any

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.ir import Node

ONNX_DTYPES = {
    1: DType.FLOAT32,
    2: DType.UINT8,
    3: DType.INT8,
    4: DType.UINT16,
    5: DType.INT16,
    6: DType.INT32,
    7: DType.INT64,
    8: DType.STRING,
    9: DType.BOOL,
    10: DType.FLOAT16,
    11: DType.FLOAT64,
    12: DType.UINT32,
    13: DType.UINT64,
    16: DType.BFLOAT16,
}
"""TensorProto.DataType (onnx.proto), the numbers that `to` and `dtype` attributes hold."""


def integer(node: Node, key: str, default: int | None = None) -> int:
    """A whole number; without a default the attribute is required."""
    value = _given(node, key, default)
    if not isinstance(value, int):
        raise _wrong(node, key, value, "a whole number")
    return value


def flag(node: Node, key: str, default: bool = False) -> bool:
    """A switch, which ONNX writes as 0 or 1."""
    return integer(node, key, int(default)) != 0


def number(node: Node, key: str, default: float | None = None) -> float:
    value = _given(node, key, default)
    if not isinstance(value, int | float):
        raise _wrong(node, key, value, "a number")
    return float(value)


def text(node: Node, key: str, default: str, *, choices: tuple[str, ...]) -> str:
    """A word out of `choices`."""
    value = _given(node, key, default)
    if value not in choices:
        raise _wrong(node, key, value, f"one of {', '.join(choices)}")
    return str(value)


def integers(node: Node, key: str) -> tuple[int, ...] | None:
    """A list of whole numbers; None where the attribute is absent."""
    value = node.attr(key)
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(v, int) for v in value):
        raise _wrong(node, key, value, "a list of whole numbers")
    return tuple(value)


def per_axis(node: Node, key: str, count: int, default: int, *, least: int = 1) -> tuple[int, ...]:
    """`count` whole numbers, none below `least`; `default` for each where absent."""
    values = integers(node, key)
    if not values:
        return (default,) * count
    if len(values) != count or min(values) < least:
        raise _wrong(node, key, values, f"{count} whole numbers from {least} up")
    return values


def dtype(node: Node, key: str, default: DType | None = None) -> DType:
    """An element type: a DType, or the number ONNX has for it (0: the default)."""
    value = _given(node, key, default)
    if value == 0 and default is not None:
        return default
    found = value if isinstance(value, DType) else ONNX_DTYPES.get(value)
    if found is None:
        raise _wrong(node, key, value, "an element type that Rekindle knows")
    return found


def _given(node: Node, key: str, default: Any) -> Any:
    value = node.attr(key, default)
    if value is None:
        raise ModelError(f"node {node} lacks its attribute {key}")
    return value


def _wrong(node: Node, key: str, value: object, expected: str) -> ModelError:
    return ModelError(f"node {node}: attribute {key} is {value!r}, expected {expected}")
