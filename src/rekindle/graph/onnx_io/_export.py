"""From a Graph of plain ONNX operators to a file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    defs,
    helper,
)

from rekindle._errors import ModelError, UsageError
from rekindle._types import DType
from rekindle.graph.ir import OWN_DOMAIN, Array, Graph, Node, Value
from rekindle.graph.onnx_io._schema import number_of
from rekindle.graph.ops._attributes import ONNX_DTYPES

_ELEMENTS = {dtype: element for element, dtype in ONNX_DTYPES.items()}
_MAX_INLINE_BYTES = 2**31 - 2**24
"""A protobuf message ends at 2 GB; larger weights go to a file beside the model."""


def save(graph: Graph, path: Path) -> None:
    """Write `graph` as an ONNX file; over 2 GB of weights go to `<name>.data` beside it.

    The file appears whole or not at all. UsageError for a graph that holds operators of our own
    domain, which only our engine reads; ModelError where the file cannot be written.
    """
    model = _model(graph)
    size = sum(a.nbytes for a in graph.initializers.values())
    try:
        if size > _MAX_INLINE_BYTES:
            onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data")
        else:
            _write(path, model.SerializeToString())
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _model(graph: Graph) -> ModelProto:
    own = sorted({n.qualified for n in graph.nodes if n.domain == OWN_DOMAIN})
    if own:
        raise UsageError(
            f"cannot write {', '.join(own)} to an ONNX file: only Rekindle knows them",
            hint="save the graph before the device passes",
        )
    opsets = graph.opsets or {"": defs.onnx_opset_version()}
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model: ModelProto = helper.make_model(
        _graph(graph), opset_imports=imports, producer_name="rekindle"
    )
    model.ir_version = helper.find_min_ir_version_for(imports, ignore_unknown=True)
    return model


def _graph(graph: Graph) -> GraphProto:
    ends = {*graph.inputs, *graph.outputs, *graph.initializers}
    made = {n for node in graph.nodes for n in node.outputs}
    between = [v for n, v in graph.values.items() if n in made - ends]
    proto: GraphProto = helper.make_graph(
        [_node(n, graph.opset(n.domain)) for n in graph.nodes],
        graph.name or "graph",
        [_end(graph, n) for n in graph.inputs],
        [_end(graph, n) for n in graph.outputs],
        [tensor(a, n) for n, a in graph.initializers.items()],
        value_info=[_value(v) for v in between],
    )
    return proto


def _value(value: Value) -> ValueInfoProto:
    info: ValueInfoProto = helper.make_tensor_value_info(
        value.name, _ELEMENTS[value.dtype], value.shape
    )
    return info


def _end(graph: Graph, name: str) -> ValueInfoProto:
    if name in graph.values:
        return _value(graph.values[name])
    return ValueInfoProto(name=name)


def tensor(array: Array, name: str) -> TensorProto:
    """An array as a TensorProto."""
    if array.dtype.kind in "USO":
        proto: TensorProto = helper.make_tensor(
            name, TensorProto.STRING, array.shape, np.array([str(s).encode() for s in array.flat])
        )
        return proto
    element = _ELEMENTS[DType(array.dtype.name)]
    made: TensorProto = helper.make_tensor(name, element, array.shape, array.tobytes(), raw=True)
    return made


def _open(node: Node) -> Node:
    """A node whose subgraphs read from around them again, as ONNX has it.

    Undoes what loading made of it. A value that a pass has renamed since keeps its inner name by
    an Identity in the subgraph.
    """
    count = node.attr("captured")
    if count is None:
        return node
    cut = len(node.inputs) - count
    attrs = {key: value for key, value in node.attrs.items() if key != "captured"}
    for key, graph in attrs.items():
        if isinstance(graph, Graph):
            own = len(graph.inputs) - count
            pairs = zip(node.inputs[cut:], graph.inputs[own:], strict=True)
            links = [Node("Identity", (a,), (b,)) for a, b in pairs if a != b]
            attrs[key] = replace(graph, inputs=graph.inputs[:own], nodes=[*links, *graph.nodes])
    return replace(node, inputs=node.inputs[:cut], attrs=attrs)


def _node(node: Node, version: int) -> NodeProto:
    node = _open(node)
    proto: NodeProto = helper.make_node(
        node.op_type,
        node.inputs,
        _outputs(node, version),
        node.name or None,
        domain=node.domain or None,
    )
    for key, value in node.attrs.items():
        proto.attribute.append(_attribute(node, version, key, value))
    return proto


def _outputs(node: Node, version: int) -> tuple[str, ...]:
    """The outputs, with names also for those that nobody reads and the operator must have."""
    if not defs.has(node.op_type, version, node.domain):
        return node.outputs
    least = defs.get_schema(node.op_type, version, node.domain).min_output
    stem = next(filter(None, node.outputs), node.op_type)
    named = [*node.outputs, *[""] * (least - len(node.outputs))]
    return tuple(name or (f"{stem}#unused{k}" if k < least else "") for k, name in enumerate(named))


def _attribute(node: Node, version: int, key: str, value: Any) -> AttributeProto:
    kind = None
    if isinstance(value, tuple) and not value:
        # An empty list does not tell its type; the operator's definition does.
        schema = defs.get_schema(node.op_type, version, node.domain)
        kind = number_of(schema.attributes[key])
    if isinstance(value, Graph):
        value = _graph(value)
    elif hasattr(value, "dtype"):
        value = tensor(value, key)
    elif isinstance(value, tuple):
        value = [tensor(v, key) if hasattr(v, "dtype") else v for v in value]
    made: AttributeProto = helper.make_attribute(key, value, attr_type=kind)
    return made
