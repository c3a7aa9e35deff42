"""Types that our operators leave open, from ONNX's own shape inference: for display only.

It follows symbolic dimensions through shape arithmetic and knows operators we do not. A graph
bound to concrete shapes needs none of it.
"""

from __future__ import annotations

import onnx.shape_inference
from onnx import GraphProto, ModelProto, TensorProto

from rekindle._errors import ModelError
from rekindle._log import debug
from rekindle.graph.ir import Graph, Value
from rekindle.graph.onnx_io._values import DeclaredTypes

_MAX_BYTES = 1_500_000_000
"""Shape inference serializes the model, and protobuf ends at 2 GB."""

_SHAPE_LIKE = 1024
"""Tensors with more elements than this are weights; shape arithmetic does not read them."""


def complete(graph: Graph, model: ModelProto) -> dict[str, Value]:
    """Types ONNX infers for values that have none in `graph`; empty where it cannot.

    Empties the weights of `model`: only their dimensions matter here.
    """
    missing = {n for n in graph.names() if _is_open(graph, n)}
    if not missing:
        return {}
    _drop_weights(model.graph)
    if model.ByteSize() > _MAX_BYTES:
        return {}
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:  # it raises whatever its C++ side threw; we only lose display
        debug(2, "ONNX shape inference gave up: %s", error)
        return {}
    return _types(inferred, missing)


def _is_open(graph: Graph, name: str) -> bool:
    """Whether a value has no shape, or dimensions that its operator could only name."""
    value = graph.values.get(name)
    if value is None or value.shape is None:
        return True
    # `ops._shapes.unknown_dim` makes these names.
    return any(d == f"{name}.{axis}" for axis, d in enumerate(value.shape))


def _types(proto: GraphProto, missing: set[str]) -> dict[str, Value]:
    declared = DeclaredTypes(proto)
    found: dict[str, Value] = {}
    for info in (*proto.value_info, *proto.output):
        if info.name in missing:
            try:
                value = declared.of(info)
            except ModelError:  # an element type without a DType stays unknown
                continue
            if value is not None:
                found[info.name] = value
    return found


def _drop_weights(proto: GraphProto) -> None:
    for tensor in proto.initializer:
        if max(tensor.dims, default=0) > _SHAPE_LIKE or len(tensor.dims) > 1:
            for content in ("raw_data", "float_data", "external_data"):
                tensor.ClearField(content)
            tensor.data_location = TensorProto.DEFAULT
