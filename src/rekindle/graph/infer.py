"""Types of every value, and graphs bound to concrete shapes.

`infer` fills in what the operators say, symbolic dimensions allowed. `bind` takes the shapes of
one call and leaves no dimension open, except those that depend on data. `fold` computes what is
constant. All three are one walk over the nodes, since shapes and constants need each other: a
Reshape knows its output once the arithmetic on Shape is a constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rekindle._errors import InputError, ModelError
from rekindle._types import Dim, Shape
from rekindle.graph import ops
from rekindle.graph.ir import OWN_DOMAIN, Array, Graph, Node, Value, dtype_of
from rekindle.graph.ops import Operand, Operator, TensorType
from rekindle.graph.order import subgraphs

FOLD_LIMIT_BYTES = 64 << 20
"""A larger constant is left to be made at run time, unless its inputs are about as large."""

FOLD_LIMIT_FLOPS = 1_000_000_000
"""More arithmetic than this is left to the device: the NumPy references are slow."""

_SHAPE_BYTES = 1 << 16
"""`infer` alone computes only what shape arithmetic may need: small things."""

_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
     "RandomUniformLike"}
)  # fmt: skip

_PRODUCTS = ("Conv", "Gemm", "MatMul")


def infer(graph: Graph) -> Graph:
    """`graph` with `values` typed: what operators infer, else what was declared.

    ModelError where a node breaks its operator's rules, or a declared dtype is wrong. Declared
    shapes fill gaps; where they contradict, the operator's answer stays.
    """
    return _Walk(graph, declared=graph.values, folds=False).run()


def fold(graph: Graph, *, weights: bool = False) -> Graph:
    """`graph` with the nodes that compute constants replaced by initializers, and typed.

    Quantised weights stay integers and the DequantizeLinear that a product reads them through;
    with `weights` they become floats, too.
    """
    kept = frozenset[str]() if weights else _quantized_weights(graph)
    return _Walk(graph, declared=graph.values, folds=True, kept=kept).run()


def bind(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> Graph:
    """`graph` on concrete input shapes: every value static, but for what depends on data.

    `shapes` holds a shape for each input with dynamic dimensions (others may be given too).
    What becomes constant is folded. InputError says which input, or which dynamic dimension,
    does not fit; ModelError where the graph does not work on these shapes.
    """
    bound = graph.copy()
    bound.values = {n: graph.values[n] for n in graph.initializers if n in graph.values}
    for name, shape in _input_shapes(graph, shapes).items():
        bound.values[name] = replace(graph.values[name], shape=shape)
    return _Walk(bound, declared={}, folds=True, kept=_quantized_weights(graph)).run()


def _quantized_weights(graph: Graph) -> frozenset[str]:
    """What products read as weights through a DequantizeLinear, and perhaps a Transpose of it."""
    wanted: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op_type in _PRODUCTS and node.domain in ("", OWN_DOMAIN) and len(node.inputs) > 1:
            wanted.add(node.inputs[1])
        elif node.op_type == "Transpose" and not node.domain and node.outputs[0] in wanted:
            wanted.add(node.inputs[0])
    decoded = {n.outputs[0] for n in graph.nodes if n.op_type == "DequantizeLinear"}
    return frozenset(wanted & decoded)


def operands_of(graph: Graph, node: Node) -> tuple[Operand | None, ...]:
    """What operators see of a node's inputs; None for absent ones. All inputs must be typed."""
    return tuple(
        Operand(graph.values[n].dtype, graph.values[n].shape, graph.initializers.get(n))
        if n
        else None
        for n in node.inputs
    )


@dataclass
class _Walk:
    """One pass over the nodes in order: types and constants so far."""

    graph: Graph
    declared: Mapping[str, Value]
    folds: bool
    """Constants replace the nodes that make them; otherwise they only serve shape arithmetic."""
    kept: frozenset[str] = frozenset()
    """Values that are not folded though they could be."""
    values: dict[str, Value] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    symbols: frozenset[Dim] = frozenset()

    def run(self) -> Graph:
        graph = self.graph
        self.constants = dict(graph.initializers)
        self.values = {n: graph.values[n] for n in graph.inputs}
        for name, array in graph.initializers.items():
            self.values[name] = Value(name, dtype_of(array), array.shape)
        self.symbols = frozenset(d for n in graph.inputs for d in graph.values[n].shape or ())
        kept = [node for node in graph.nodes if not self._visit(node) or not self.folds]
        result = replace(graph.copy(), nodes=kept, values=self.values)
        if self.folds:
            result.initializers = self.constants
        return result

    def _visit(self, node: Node) -> bool:
        """Type the outputs of a node; whether all of them became constants."""
        operator = ops.find(node.qualified, self.graph.opset(node.domain))
        types: Sequence[TensorType | None] = [None] * len(node.outputs)
        operands = self._operands(node)
        if operator is not None and operands is not None:
            types = ops.infer(operator, node, operands)
        for name, kind in zip(node.outputs, types, strict=True):
            if name and (value := self._merge(name, kind)):
                self.values[name] = value
        if operator is None or operands is None:
            return False
        arrays = self._compute(operator, node, operands, [t for t in types if t])
        for name, array in zip(node.outputs, arrays, strict=False):
            if name:
                self.constants[name] = array
                self.values[name] = Value(name, dtype_of(array), array.shape)
        return bool(arrays)

    def _operands(self, node: Node) -> tuple[Operand | None, ...] | None:
        """None where an input has no type (an unknown operator made it)."""
        found: list[Operand | None] = []
        for name in node.inputs:
            if name and name not in self.values:
                return None
            value = self.values[name] if name else None
            found.append(
                Operand(value.dtype, value.shape, self.constants.get(name)) if value else None
            )
        return tuple(found)

    def _merge(self, name: str, inferred: TensorType | None) -> Value | None:
        declared = self.declared.get(name)
        if inferred is None:
            return declared
        if declared is None:
            return Value(name, inferred.dtype, inferred.shape)
        if declared.dtype is not inferred.dtype:
            raise ModelError(
                f"value {name!r} is declared as {declared.dtype}, but is {inferred.dtype}"
            )
        shape = self._merge_shapes(inferred.shape, declared.shape)
        return Value(name, inferred.dtype, shape, declared.layout)

    def _merge_shapes(self, inferred: Shape | None, declared: Shape | None) -> Shape | None:
        if inferred is None or declared is None:
            return declared if inferred is None else inferred
        if len(inferred) != len(declared):
            return inferred
        # A name that an input's shape introduces is certain; one an operator made up for a
        # dimension it cannot tell gives way to what the file says.
        return tuple(
            ours if isinstance(ours, int) or ours in self.symbols else theirs
            for ours, theirs in zip(inferred, declared, strict=True)
        )

    def _compute(
        self,
        operator: Operator,
        node: Node,
        operands: Sequence[Operand | None],
        types: Sequence[TensorType],
    ) -> tuple[Array, ...]:
        """The node's outputs, if they are constant and cheap enough to keep; else ()."""
        told = [t.constant for t in types if t.constant is not None]
        if types and len(told) == len(types):
            return tuple(told)
        present = [o for o in operands if o is not None]
        if (
            node.op_type in _RANDOM
            or node.outputs[0] in self.kept
            or any(o.constant is None for o in present)
        ):
            return ()
        if any(subgraphs(node)) or not self._affordable(operator, node, operands, types):
            return ()
        inputs = [o.constant if o is not None else None for o in operands]
        return tuple(np.asarray(a, order="C") for a in ops.compute(operator, node, inputs))

    def _affordable(
        self,
        operator: Operator,
        node: Node,
        operands: Sequence[Operand | None],
        types: Sequence[TensorType],
    ) -> bool:
        given = sum(o.constant.nbytes for o in operands if o and o.constant is not None)
        limit = max(FOLD_LIMIT_BYTES, 2 * given) if self.folds else _SHAPE_BYTES
        made = 0
        for kind in types:
            if kind.shape is None or not all(isinstance(d, int) for d in kind.shape):
                return given <= limit  # the size depends on data, which is at hand
            made += math.prod(d for d in kind.shape if isinstance(d, int)) * kind.dtype.itemsize
        if made > limit:
            return False
        return ops.count_flops(operator, node, operands, types) <= FOLD_LIMIT_FLOPS


def _input_shapes(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """A concrete shape for every input, checked against the declared ones."""
    for name in shapes:
        if name not in graph.inputs:
            known = ", ".join(map(repr, graph.inputs)) or "none"
            raise InputError(f"the model has no input {name!r}", hint=f"its inputs: {known}")
    sizes: dict[str, tuple[int, str]] = {}
    for name, given in shapes.items():
        _check_shape(name, tuple(given), graph.values[name].shape, sizes)
    bound = {}
    for name in graph.inputs:
        declared = graph.values[name].shape
        if name in shapes:
            bound[name] = tuple(int(d) for d in shapes[name])
            continue
        known_dims = {symbol: size for symbol, (size, _) in sizes.items()}
        dims = tuple(known_dims.get(d, d) if isinstance(d, str) else d for d in declared or ())
        if declared is None or any(isinstance(d, str) for d in dims):
            raise InputError(
                f"input {name!r} has the dynamic shape {_show(declared)}; its shape must be given"
            )
        bound[name] = tuple(d for d in dims if isinstance(d, int))
    return bound


def _check_shape(
    name: str, given: tuple[int, ...], declared: Shape | None, sizes: dict[str, tuple[int, str]]
) -> None:
    if any(isinstance(d, bool) or not isinstance(d, int | np.integer) or d < 0 for d in given):
        raise InputError(f"input {name!r}: {given} is not a shape")
    if declared is None:
        return
    wrong = f"input {name!r}: expected shape {_show(declared)}, got {_show(given)}"
    if len(given) != len(declared):
        raise InputError(f"{wrong}: rank {len(given)} instead of {len(declared)}")
    for axis, (size, expected) in enumerate(zip(given, declared, strict=True)):
        if isinstance(expected, str):
            first, where = sizes.setdefault(expected, (size, name))
            if first != size:
                raise InputError(
                    f"dimension {expected!r} is {first} in input {where!r}, "
                    f"but {size} in axis {axis} of input {name!r}"
                )
        elif size != expected:
            raise InputError(f"{wrong}: axis {axis} must be {expected}")


def _show(shape: Sequence[Dim] | None) -> str:
    return "of unknown rank" if shape is None else f"({', '.join(map(str, shape))})"
