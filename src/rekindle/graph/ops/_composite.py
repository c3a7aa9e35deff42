"""Operators that are written in other operators: their types, values and calls follow.

    def _skip(body: Body) -> tuple[str, ...]:
        total = body.call("Add", body.input(0), body.input(1))
        return (body.call("LayerNormalization", total, body.input(2), axis=-1),)

    register("com.microsoft::SkipLayerNormalization", composite(_skip))

The function is called whenever the node is looked at, and sees the types of the inputs and of
what it has made so far. The pass `expansion` puts the parts in the node's place wherever the
graph's opset means the same by them, so that fusion and layouts go on inside; elsewhere the node
is lowered as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType, Shape
from rekindle.graph import ops
from rekindle.graph.ir import OWN_DOMAIN, Array, Graph, Node, Value, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType

_NEWEST = 1 << 30


class OpenShapeError(Exception):
    """What is written depends on a shape that is not known yet."""


@dataclass(frozen=True)
class Part:
    """One node that stands for a part of another."""

    node: Node
    operator: Operator


class Body:
    """What a composite's function sees of its node, and where the parts go."""

    def __init__(self, node: Node, operands: Sequence[Operand | None]) -> None:
        self.node = node
        self.parts: list[Part] = []
        self.constants: dict[str, Array] = {}
        self.operands: dict[str, Operand] = {
            name: operand
            for name, operand in zip(node.inputs, operands, strict=False)
            if name and operand is not None
        }
        self._stem = next(filter(None, node.outputs), node.op_type)

    def has(self, index: int) -> bool:
        """Whether the node has the input."""
        return index < len(self.node.inputs) and bool(self.node.inputs[index])

    def input(self, index: int) -> str:
        """A required input's name."""
        if not self.has(index):
            raise ModelError(f"node {self.node} lacks its input {index}")
        return self.node.inputs[index]

    def optional(self, index: int) -> str:
        """The name of an input, empty where it is absent."""
        return self.node.inputs[index] if self.has(index) else ""

    def wants(self, output: int) -> bool:
        """Whether somebody reads the output."""
        return output < len(self.node.outputs) and bool(self.node.outputs[output])

    def dtype(self, name: str) -> DType:
        return self.operands[name].dtype

    def shape(self, name: str) -> Shape:
        """Dimensions may be symbolic; the rank is known, else OpenShapeError."""
        shape = self.operands[name].shape
        if shape is None:
            raise OpenShapeError
        return shape

    def rank(self, name: str) -> int:
        return len(self.shape(name))

    def sizes(self, name: str) -> tuple[int, ...]:
        """The shape in numbers, else OpenShapeError."""
        sizes = tuple(d for d in self.shape(name) if isinstance(d, int))
        if len(sizes) < self.rank(name):
            raise OpenShapeError
        return sizes

    def constant(self, array: Array) -> str:
        """A constant of the composite's own."""
        name = f"{self._stem}/constant{len(self.constants)}"
        self.constants[name] = array
        self.operands[name] = Operand(dtype_of(array), array.shape, array)
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def number(self, value: float, like: str) -> str:
        """A number without axes, of the element type of `like`."""
        from rekindle.graph.ir import numpy_dtype

        return self.constant(np.asarray(value, numpy_dtype(self.dtype(like))))

    def call(self, operator: str, *inputs: str, domain: str = "", **attrs: Any) -> str:
        """One part with one output, whose name is returned."""
        return self.calls(operator, *inputs, outputs=1, domain=domain, **attrs)[0]

    def calls(
        self,
        operator: str,
        *inputs: str,
        outputs: int,
        domain: str = "",
        version: int = _NEWEST,
        **attrs: Any,
    ) -> tuple[str, ...]:
        """One part, in the newest version of its operator or another; names of its outputs."""
        stem = f"{self._stem}/{len(self.parts)}"
        names = (stem, *(f"{stem}.{i}" for i in range(1, outputs)))
        label = f"{self.node.name or self._stem}/{operator}"
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        node = Node(operator, inputs, names, attrs, domain, label)
        found = ops.find(node.qualified, version)
        assert found is not None, node.qualified
        types = ops.infer(found, node, [self.operands[n] if n else None for n in inputs])
        self.operands |= {
            n: Operand(t.dtype, t.shape, t.constant) for n, t in zip(names, types, strict=True)
        }
        self.parts.append(Part(node, found))
        return names

    def product(
        self, a: str, b: str, *, transpose_a: bool = False, transpose_b: bool = False
    ) -> str:
        """The matrix product of two values, the last two axes of each swapped where asked."""
        return self.call(
            "MatMul", a, b, domain=OWN_DOMAIN,
            transpose_a=transpose_a, transpose_b=transpose_b, epilogue=None,
        )  # fmt: skip


Describe = Callable[[Body], Sequence[str]]
"""Calls parts; returns the name behind each output, in order (empty: an output not wanted)."""


def composite(describe: Describe, *, since: int = 1) -> Operator:
    """An operator from its description. Its version is that of its own domain."""

    def infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
        try:
            body, results = _describe(describe, node, inputs)
        except OpenShapeError:
            kind = next(o.dtype for o in inputs if o is not None)
            return (TensorType(kind, None),) * len(node.outputs)
        return tuple(_type(body, name, node) for name in results)

    def reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        operands = [None if a is None else Operand(dtype_of(a), a.shape, a) for a in inputs]
        body, results = _describe(describe, node, operands)
        arrays = dict(body.constants)
        arrays |= {n: a for n, a in zip(node.inputs, inputs, strict=False) if n and a is not None}
        for part in _needed(body, results):
            given = [arrays[n] if n else None for n in part.node.inputs]
            made = ops.compute(part.operator, part.node, given)
            arrays |= {n: a for n, a in zip(part.node.outputs, made, strict=False) if n}
        return tuple(arrays[n] if n else np.zeros(0) for n in results)

    def flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
        body, _ = _describe(describe, node, inputs)
        total = 0
        for part in body.parts:
            given = [body.operands[n] if n else None for n in part.node.inputs]
            types = [_type(body, n, node) for n in part.node.outputs]
            total += ops.count_flops(part.operator, part.node, given, types)
        return total

    def expand(graph: Graph, node: Node) -> tuple[list[Part], dict[str, Array]]:
        return _expand(describe, graph, node)

    def lower(lowering: Lowering) -> None:
        parts, constants = _expand(describe, lowering.graph, lowering.node)
        inner = _typed(lowering.graph, parts, constants)
        for part in parts:
            own = Lowering(inner, part.node)
            ops.lower(part.operator, own)
            lowering.calls += own.calls
            lowering.literals |= own.literals
        lowering.literals |= constants

    return Operator(
        since=since, infer=infer, reference=reference, flops=flops, lower=lower, expand=expand
    )


def _describe(
    describe: Describe, node: Node, inputs: Sequence[Operand | None]
) -> tuple[Body, tuple[str, ...]]:
    body = Body(node, inputs)
    try:
        results = [*describe(body)]
    except ModelError as error:  # of a part, which the model's author does not know
        if str(node) in error.message:
            raise
        raise ModelError(f"node {node}: {error.message}", hint=error.hint) from error
    results += [""] * (len(node.outputs) - len(results))
    return body, tuple(results[: len(node.outputs)])


def _type(body: Body, name: str, node: Node) -> TensorType:
    if not name:
        return TensorType(next(iter(body.operands.values())).dtype, None)
    operand = body.operands[name]
    return TensorType(operand.dtype, operand.shape, operand.constant)


def _needed(body: Body, results: Sequence[str]) -> list[Part]:
    """The parts that the results need; outputs of theirs that nothing reads have no name."""
    wanted, kept = set(results), []
    for part in reversed(body.parts):
        outputs = tuple(n if n in wanted else "" for n in part.node.outputs)
        if any(outputs):
            node = replace(part.node, outputs=ops.shortened(part.node, outputs))
            kept.append(Part(node, part.operator))
            wanted.update(part.node.inputs)
    return kept[::-1]


def _expand(describe: Describe, graph: Graph, node: Node) -> tuple[list[Part], dict[str, Array]]:
    """The parts under the names of the node's own outputs, and the constants they read."""
    operands = [
        Operand(graph.values[n].dtype, graph.values[n].shape, graph.constant(n)) if n else None
        for n in node.inputs
    ]
    body, results = _describe(describe, node, operands)
    pairs = [(n, r) for n, r in zip(node.outputs, results, strict=True) if n]
    names: dict[str, str] = {}
    made = {n for part in body.parts for n in part.node.outputs}
    for index, (output, result) in enumerate(pairs):
        if result not in made or result in names:
            link = body.call("Identity", result)
            names[link], pairs[index] = output, (output, link)
        else:
            names[result] = output
    parts = []
    for part in _needed(body, [r for _, r in pairs]):
        inputs = tuple(names.get(n, n) for n in part.node.inputs)
        outputs = tuple(names.get(n, n) for n in part.node.outputs)
        parts.append(Part(replace(part.node, inputs=inputs, outputs=outputs), part.operator))
    read = {n for part in parts for n in part.node.inputs}
    return parts, {n: a for n, a in body.constants.items() if n in read}


def _typed(graph: Graph, parts: Sequence[Part], constants: dict[str, Array]) -> Graph:
    """A view of the graph in which the parts' values have types, too."""
    inner = replace(
        graph,
        values=dict(graph.values),
        initializers={**graph.initializers, **constants},
    )
    for name, array in constants.items():
        inner.values[name] = Value(name, dtype_of(array), array.shape)
    for part in parts:
        given = [
            Operand(inner.values[n].dtype, inner.values[n].shape, inner.constant(n)) if n else None
            for n in part.node.inputs
        ]
        types = ops.infer(part.operator, part.node, given)
        for name, kind in zip(part.node.outputs, types, strict=True):
            if name and name not in graph.values:
                inner.values[name] = Value(name, kind.dtype, kind.shape)
    return inner
