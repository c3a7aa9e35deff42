"""Graphs of one node that the self-test runs, and numbers to fill them with: small and awkward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rekindle._types import Layout
from rekindle.graph import ops
from rekindle.graph.infer import operands_of
from rekindle.graph.ir import OWN_DOMAIN, Array, Graph, Node, Value, dtype_of
from rekindle.graph.ops.chain import chain

_OPSET = 17


@dataclass(frozen=True)
class Case:
    """A graph of one node, and what to feed it (row-major)."""

    name: str
    graph: Graph
    feeds: Mapping[str, Array]


@dataclass(frozen=True)
class Input:
    """An input of a node, row-major here, and how it is stored."""

    array: Array
    constant: bool = False
    block: int = 0


def case(
    name: str, op: str, inputs: Sequence[Input | Array | None], /, out_block: int = 0, **attrs: Any
) -> Case:
    """`op` may be `rekindle::Type`; bare arrays are computed, row-major inputs."""
    names = tuple("" if item is None else f"x{i}" for i, item in enumerate(inputs))
    graph, feeds = _inputs(name, dict(zip(names, inputs, strict=True)))
    _append(graph, _node(op, names, "y", attrs, name), out_block)
    return Case(name, graph, feeds)


@dataclass(frozen=True)
class Link:
    """A node of a chain, and what it reads beside the result of the one before."""

    op: str
    others: tuple[Input | Array | None, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)


def chained(name: str, x: Input, links: Sequence[Link], block: int) -> Case:
    """The links as one `rekindle::Chain`; what lies between, and the result, are blocked."""
    given: dict[str, Input | Array | None] = {"x": x}
    nodes: list[Node] = []
    for i, link in enumerate(links):
        names = ["" if o is None else f"x{i}_{k}" for k, o in enumerate(link.others)]
        given |= zip(names, link.others, strict=True)
        made = "y" if link is links[-1] else f"m{i}"
        before = nodes[-1].outputs[0] if nodes else "x"
        nodes.append(_node(link.op, (before, *names), made, link.attrs, f"{name} {i}"))
    graph, feeds = _inputs(name, given)
    for node in nodes:
        _append(graph, node, block)
    between = [graph.values.pop(node.outputs[0]) for node in nodes[:-1]]
    graph.nodes = [chain(nodes, between)]
    return Case(name, graph, feeds)


def _inputs(
    name: str, given: Mapping[str, Input | Array | None]
) -> tuple[Graph, Mapping[str, Array]]:
    """A graph without nodes, of which "y" is the output, and what to feed it."""
    kept = {n: Input(i) if isinstance(i, np.ndarray) else i for n, i in given.items()}
    values: dict[str, Value] = {}
    constants: dict[str, Array] = {}
    feeds: dict[str, Array] = {}
    for n, item in kept.items():
        if item is not None:
            values[n] = Value(n, dtype_of(item.array), item.array.shape, Layout(item.block))
            (constants if item.constant else feeds)[n] = item.array
    opsets = {"": _OPSET, OWN_DOMAIN: 1}
    return Graph(name, tuple(feeds), ("y",), [], values, constants, opsets), feeds


def _node(op: str, inputs: Sequence[str], output: str, attrs: Mapping[str, Any], name: str) -> Node:
    domain, _, op_type = op.rpartition("::")
    return Node(op_type, tuple(inputs), (output,), attrs, domain, name)


def _append(graph: Graph, node: Node, block: int) -> None:
    """The node, and its result in blocks of that many channels."""
    operator = ops.find(node.qualified, graph.opset(node.domain))
    assert operator is not None, node
    (made,) = ops.infer(operator, node, operands_of(graph, node))
    (output,) = node.outputs
    graph.values[output] = Value(output, made.dtype, made.shape, Layout(block))
    graph.nodes.append(node)


def draw(*shape: int, seed: int = 0) -> Array:
    """Floats as a normal distribution has them."""
    rng = np.random.default_rng((seed, *shape))
    return rng.standard_normal(shape).astype(np.float32)


def integers(*shape: int, dtype: Any = np.int32) -> Array:
    """Whole numbers below 100, none negative."""
    return np.random.default_rng(shape).integers(0, 100, shape).astype(dtype)


def odd(*shape: int) -> Array:
    """Ordinary numbers with NaN and both infinities among them."""
    array = draw(*shape)
    array.reshape(-1)[[0, array.size // 2, array.size - 1]] = np.nan, np.inf, -np.inf
    return array


def constant(array: Array) -> Input:
    """An input that is known when the plan is made."""
    return Input(array, constant=True)


def whole(*shape: int, most: int = 127) -> Array:
    """Whole numbers from -most to most, of eight bits."""
    return np.random.default_rng(shape).integers(-most, most + 1, shape).astype(np.int8)
