"""From a checked ModelProto to a Graph: names, types, attributes, order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from rekindle._errors import ModelError
from rekindle.graph.ir import Array, Graph, Node, Value, dtype_of
from rekindle.graph.onnx_io import _schema
from rekindle.graph.onnx_io._parse import opsets, plain_domain
from rekindle.graph.onnx_io._tensors import text, to_array
from rekindle.graph.onnx_io._values import DeclaredTypes, describe
from rekindle.graph.order import captured, in_order, subgraphs


def convert(model: ModelProto, folder: Path | None) -> Graph:
    """The model as a Graph with the types the file declares; nodes in topological order."""
    return _Converter(opsets(model), folder).graph(model.graph, frozenset())


@dataclass
class _Converter:
    opsets: dict[str, int]
    folder: Path | None

    def graph(self, proto: GraphProto, outer: frozenset[str]) -> Graph:
        """One graph; `outer` holds the names that a subgraph may read from around it."""
        label = text(proto.name, "the graph's name")
        if proto.sparse_initializer:
            raise ModelError(f"graph {label!r} has sparse initializers, which are not supported")
        declared = DeclaredTypes(proto)
        initializers = self._initializers(proto)
        values = {n: Value(n, dtype_of(a), a.shape) for n, a in initializers.items()}
        inputs = _inputs(proto, declared, values, nested=bool(outer))
        visible = outer | {*inputs, *initializers, *_made(proto)}
        nodes = [self._node(n, i, visible) for i, n in enumerate(proto.node)]
        defined = _define_once(label, inputs, initializers, nodes)
        outputs = _outputs(proto, defined | outer, declared, values)
        for info in proto.value_info:
            name = text(info.name, "a value's name")
            if name in defined and name not in values and (value := declared.of(info)):
                values[name] = value
        return Graph(
            name=label,
            inputs=inputs,
            outputs=outputs,
            nodes=in_order(nodes, {*inputs, *initializers, *outer}),
            values=values,
            initializers=initializers,
            opsets=dict(self.opsets),
        )

    def _initializers(self, proto: GraphProto) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for tensor in proto.initializer:
            name = text(tensor.name, "an initializer's name")
            if not name or name in found:
                raise ModelError(f"initializer {name!r} is {'there twice' if name else 'nameless'}")
            found[name] = to_array(tensor, self.folder)
        return found

    def _node(self, proto: NodeProto, index: int, visible: frozenset[str]) -> Node:
        op_type = text(proto.op_type, f"the operator of node {index}")
        domain = plain_domain(text(proto.domain, f"the domain of node {index}"))
        name = text(proto.name, f"the name of node {index}")
        inputs = tuple(text(n, f"an input of node {index}") for n in proto.input)
        outputs = tuple(text(n, f"an output of node {index}") for n in proto.output)
        label = f"{op_type} {name or f'number {index}'!r}"
        if not op_type:
            raise ModelError(f"node {label} names no operator")
        if domain not in self.opsets:
            raise ModelError(
                f"node {label} is of operator domain {domain or 'ai.onnx'!r}, "
                "whose version the model does not state"
            )
        _schema.check(proto, domain, self.opsets[domain], label)
        attrs = {
            text(a.name, f"an attribute of node {label}"): self._attribute(a, label, visible)
            for a in proto.attribute
        }
        node = Node(op_type, _without_trailing_absent(inputs), outputs, attrs, domain, name)
        return _closed(node)

    def _attribute(self, proto: AttributeProto, label: str, visible: frozenset[str]) -> Any:
        what = f"attribute {proto.name!r} of node {label}"
        if proto.ref_attr_name:
            raise ModelError(f"{what} refers to a function's attribute outside of a function")
        match proto.type:
            case AttributeProto.FLOAT:
                return proto.f
            case AttributeProto.INT:
                return proto.i
            case AttributeProto.STRING:
                return text(proto.s, what)
            case AttributeProto.TENSOR:
                return to_array(proto.t, self.folder)
            case AttributeProto.GRAPH:
                return self.graph(proto.g, visible)
            case AttributeProto.FLOATS:
                return tuple(proto.floats)
            case AttributeProto.INTS:
                return tuple(proto.ints)
            case AttributeProto.STRINGS:
                return tuple(text(s, what) for s in proto.strings)
            case AttributeProto.TENSORS:
                return tuple(to_array(t, self.folder) for t in proto.tensors)
            case AttributeProto.GRAPHS:
                return tuple(self.graph(g, visible) for g in proto.graphs)
            case _:
                raise ModelError(f"{what} is a sparse tensor or a type, which are not supported")


def _inputs(
    proto: GraphProto, declared: DeclaredTypes, values: dict[str, Value], *, nested: bool
) -> tuple[str, ...]:
    """Names of the run-time inputs; their types go into `values`.

    An input that has an initializer, its default, is a constant here. In a subgraph types may be
    left open: the node around it gives the values.
    """
    constants = set(values)
    names: list[str] = []
    for info in proto.input:
        name = text(info.name, "an input's name")
        if not name or name in names:
            raise ModelError(f"input {name!r} is {'there twice' if name else 'nameless'}")
        if name in constants:
            continue
        value = declared.of(info)
        if value is None and nested and info.type.WhichOneof("value") in (None, "tensor_type"):
            names.append(name)
            continue
        if value is None:
            raise ModelError(f"input {name!r} is {describe(info.type)}; only tensors are supported")
        names.append(name)
        values[name] = value
    return tuple(names)


def _outputs(
    proto: GraphProto, visible: frozenset[str], declared: DeclaredTypes, values: dict[str, Value]
) -> tuple[str, ...]:
    names: list[str] = []
    for info in proto.output:
        name = text(info.name, "an output's name")
        if name in names:
            raise ModelError(f"output {name!r} is there twice")
        if name not in visible:
            raise ModelError(f"output {name!r} is neither made by a node nor an input")
        if info.type.WhichOneof("value") not in (None, "tensor_type"):
            raise ModelError(
                f"output {name!r} is {describe(info.type)}; only tensors are supported"
            )
        names.append(name)
        if name not in values and (value := declared.of(info)):
            values[name] = value
    if not names:
        raise ModelError("the graph has no outputs")
    return tuple(names)


def _made(proto: GraphProto) -> Iterator[str]:
    """Names that the nodes of a graph make."""
    return (text(n, "an output's name") for node in proto.node for n in node.output if n)


_LOOP_HEADER = 2
"""Inputs of a Loop before its carried values: trip count and condition, either may be absent."""


def _closed(node: Node) -> Node:
    """The node with what its subgraphs read from around them as inputs of its own, and of theirs.

    `captured` counts these last inputs. Passes then see and rename them as any other input.
    """
    if not any(subgraphs(node)):
        return node
    names = tuple(dict.fromkeys(n for graph in subgraphs(node) for n in captured(graph)))
    attrs = {
        key: replace(value, inputs=(*value.inputs, *names)) if isinstance(value, Graph) else value
        for key, value in node.attrs.items()
    }
    inputs = node.inputs
    if node.op_type == "Loop":
        inputs += ("",) * (_LOOP_HEADER - len(inputs))
    return replace(node, inputs=(*inputs, *names), attrs={**attrs, "captured": len(names)})


def _without_trailing_absent(names: tuple[str, ...]) -> tuple[str, ...]:
    while names and not names[-1]:
        names = names[:-1]
    return names


def _define_once(
    label: str, inputs: Sequence[str], initializers: dict[str, Array], nodes: Sequence[Node]
) -> frozenset[str]:
    """Every name the graph defines; ModelError where one is defined twice."""
    defined = {*inputs, *initializers}
    for node in nodes:
        for name in filter(None, node.outputs):
            if name in defined:
                raise ModelError(f"graph {label!r} defines value {name!r} twice, again in {node}")
            defined.add(name)
    return frozenset(defined)
