"""Values between nodes are stored as half precision, and weights as half or bfloat16.

Graph inputs and outputs stay float32, and what subgraphs read. So do biases, scales and the
parameters of normalisations; arithmetic is float32 everywhere. Where a node's operator does not
take half precision, or could leave its range (sums, powers), it works in float32 between casts.
A weight beyond 65504 stays float32, with a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from rekindle._errors import ModelError
from rekindle._log import warn_once
from rekindle._types import DType, Target
from rekindle.graph import ops
from rekindle.graph.decode import Decode
from rekindle.graph.expr import Arg, Call, Cast, Const, Expr
from rekindle.graph.ir import OWN_DOMAIN, Array, Graph, Node, numpy_dtype
from rekindle.graph.order import captured, subgraphs
from rekindle.graph.passes import register
from rekindle.graph.passes._fuse import composes, elementwise
from rekindle.graph.passes._products import with_epilogue
from rekindle.graph.passes._rewrite import prune
from rekindle.graph.passes._rounding import narrowed
from rekindle.graph.passes.quantized_weights import is_worth, output_axis, own_step

NAMES = ("bfloat16_weights", "half_values", "half_weights")

_HALF, _SINGLE = DType.FLOAT16, DType.FLOAT32
_TOO_LARGE = 65520
"""What half precision rounds to infinity."""
_WHOLE = 256
"""Whole numbers up to here are bfloat16s."""
_LARGE = 4096
"""Elements from which a constant beside computed values (positions, tables) is stored as half."""
_UNBOUNDED = ("cosh", "exp", "pow", "sinh", "tan")
"""What may leave half's range though its operands do not."""
_ATTENTION = "rekindle::Attention"
"""Its inputs may be of different float types."""
_WIDE = ("CumSum", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceProd", "ReduceSum",
         "ReduceSumSquare")  # fmt: skip


def run(graph: Graph, target: Target | None, weights: DType | None) -> Graph:
    """`weights`: the storage type of float weights; None leaves them.

    Keys and values of attention are float32 on graphics cards, and so is what a matrix of weights
    is multiplied with: they go through scalar registers, which halves cannot.
    """
    inner = [captured(g) for node in graph.nodes for g in subgraphs(node)]
    fixed = frozenset((*graph.inputs, *graph.outputs, *chain.from_iterable(inner)))
    result = graph.copy()
    result.nodes = []
    lanes = target is not None and target.family != "cpu"
    writer = _Writer(graph, result, fixed, weights, lanes)
    for node in graph.nodes:
        writer.add(node)
    return prune(result)


@dataclass
class _Writer:
    source: Graph
    result: Graph
    fixed: frozenset[str]
    weights: DType | None
    lanes: bool
    """Whether work-items are lanes of a graphics card."""
    casts: dict[tuple[str, DType], str] = field(default_factory=dict)
    scalar: frozenset[str] = field(init=False)
    """Values that only such places read: they stay float32."""

    def __post_init__(self) -> None:
        readers: dict[str, list[bool]] = {}
        for node in self.source.nodes if self.lanes else ():
            places = self._scalar_places(node)
            for place, name in enumerate(node.inputs):
                readers.setdefault(name, []).append(place in places)
        self.scalar = frozenset(name for name, scalar in readers.items() if all(scalar))

    def _scalar_places(self, node: Node) -> tuple[int, ...]:
        """Inputs that go through scalar registers of a graphics card."""
        if node.qualified == _ATTENTION:
            return 1, 2
        product = with_epilogue(self.source, node)
        if product is None or product.op_type != "MatMul":
            return ()
        return () if self.source.constant(product.inputs[1]) is None else (0,)

    def add(self, node: Node) -> None:
        if any(subgraphs(node)) or not self._floats(node.outputs):
            self.result.nodes.append(self._reading(node, _SINGLE))
            return
        product = with_epilogue(self.source, node)
        if product is not None and self._floats(product.inputs[:1]):
            self._product(product)
        elif node.qualified == _ATTENTION and self.lanes:
            keys = (self._cast(n, _SINGLE) for n in node.inputs[1:3])
            self._other(replace(node, inputs=(node.inputs[0], *keys, *node.inputs[3:])))
        elif not self._elementwise(node):
            self._other(node)

    def _product(self, node: Node) -> None:
        epilogue, exact = node.attr("epilogue"), bool(node.attr("exact", False))
        narrow = not exact and (epilogue is None or not _may_overflow(epilogue))
        attrs = {**node.attrs, "dtype": self._result(node.outputs[0], narrow=narrow)}
        name, array = node.inputs[1], self.source.constant(node.inputs[1])
        plain = array is not None and array.dtype == np.float32 and not exact
        if array is not None and plain and self.weights is not None and is_worth(node, array):
            name, decode = self._narrow(name, array, self.weights, output_axis(node, array))
            attrs |= {"decode": decode} if decode is not None else {}
        scalar = self.lanes and self._scalar_places(node)
        left = self._cast(node.inputs[0], _SINGLE) if scalar else node.inputs[0]
        inputs = (left, name, *node.inputs[2:])
        self.result.nodes.append(replace(node, inputs=inputs, attrs=attrs))

    def _narrow(
        self, name: str, array: Array, dtype: DType, outputs: int
    ) -> tuple[str, Decode | None]:
        """Weights in a 16-bit type, which has those exactly that were integers once."""
        step = own_step(array)
        if step is None or np.abs(array).max() > _WHOLE * step:
            return self._stored(name, array, dtype, outputs) or name, None
        integers = self._stored(name, np.rint(array / step), dtype) or name
        return integers, Decode(np.full((1,) * array.ndim, step, np.float32))

    def _elementwise(self, node: Node) -> bool:
        """An elementwise node as an expression over whatever types its inputs are stored in."""
        what = elementwise(self.source, node)
        if what is None or not composes(self.source, node, what):
            return False
        dtypes = {self.source.values[n].dtype for n in what.names}
        if any(d.is_float and d is not _SINGLE for d in dtypes):
            return False
        name = node.outputs[0]
        dtype = self._result(name, narrow=not _may_overflow(what.expr))
        names = tuple(self._constant(n) for n in what.names)
        attrs = {"expr": what.expr, "dtype": dtype}
        self.result.nodes.append(
            Node("Elementwise", names, node.outputs, attrs, OWN_DOMAIN, node.name)
        )
        return True

    def _other(self, node: Node) -> None:
        """Any other node: in half precision where its inputs are and its operator takes it."""
        reads = [n for n in node.inputs if n and self._is(n, _SINGLE, self.source)]
        computed = [n for n in reads if self.source.constant(n) is None]
        narrow = any(self._is(n, _HALF, self.result) for n in computed)
        narrow = narrow or (bool(reads) and not computed)
        if narrow and node.op_type not in _WIDE and self.fixed.isdisjoint(node.outputs):
            for constants in (_SINGLE, _HALF):
                made = self._narrowed(node, constants)
                if made is not None:
                    self.result.nodes.append(made)
                    return
        self.result.nodes.append(self._reading(node, _SINGLE))

    def _narrowed(self, node: Node, constants: DType) -> Node | None:
        """The node on half precision, its float constants in `constants`; None: it refuses."""
        operator = ops.find(node.qualified, self.source.opset(node.domain))
        if operator is None:
            return None
        names: list[str] = []
        for name in node.inputs:
            if not name or not self._is(name, _SINGLE, self.source):
                names.append(name)
                continue
            array = self.source.constant(name)
            if array is not None and constants is _SINGLE:
                names.append(name)
                continue
            stored = self._stored(name, array, _HALF) if array is not None else name
            if stored is None:
                return None
            names.append(stored)
        operands = [self._operand(n) if n else None for n in names]
        try:
            types = ops.infer(operator, node, operands)
        except ModelError:
            return None
        before = [self.source.values[n] for n in node.outputs if n]
        after = [t for n, t in zip(node.outputs, types, strict=True) if n]
        if any(
            v.dtype is _SINGLE and t.dtype is not _HALF for v, t in zip(before, after, strict=True)
        ):
            return None
        made = self._reading(replace(node, inputs=tuple(names)), _HALF, constants)
        for value, kind in zip(before, after, strict=True):
            self.result.values[value.name] = replace(value, dtype=kind.dtype)
        return made

    def _operand(self, name: str) -> ops.Operand:
        value, array = self.result.values[name], self.result.constant(name)
        dtype = value.dtype
        if array is None and self._is(name, _SINGLE, self.source):
            dtype = _HALF
        return ops.Operand(dtype, value.shape, array)

    def _reading(self, node: Node, dtype: DType, constants: DType | None = None) -> Node:
        """The node with its computed floats read in `dtype`, by casts where they are not."""
        inputs = []
        for name in node.inputs:
            known = (
                node.qualified != _ATTENTION
                and name in self.source.values
                and self._is(name, _SINGLE, self.source)
            )
            computed = known and self.source.constant(name) is None
            inputs.append(self._cast(name, dtype) if name and computed else name)
        return replace(node, inputs=tuple(inputs))

    def _cast(self, name: str, dtype: DType) -> str:
        if self.result.values[name].dtype is dtype:
            return name
        if (name, dtype) not in self.casts:
            made = self.result.fresh(f"{name}.{dtype}")
            self.result.values[made] = replace(self.result.values[name], name=made, dtype=dtype)
            attrs = {"expr": Cast(dtype, Arg(0)), "dtype": dtype}
            self.result.nodes.append(Node("Elementwise", (name,), (made,), attrs, OWN_DOMAIN))
            self.casts[name, dtype] = made
        return self.casts[name, dtype]

    def _result(self, name: str, *, narrow: bool = True) -> DType:
        """Store a result as half where it may be; the type it gets."""
        value = self.source.values[name]
        if value.dtype is not _SINGLE or name in self.fixed | self.scalar or not narrow:
            return value.dtype
        self.result.values[name] = replace(value, dtype=_HALF)
        return _HALF

    def _constant(self, name: str) -> str:
        """A large constant beside computed values, as half if it can be."""
        array = self.source.constant(name)
        if array is None or array.dtype != np.float32 or array.size < _LARGE:
            return name
        return self._stored(name, array, _HALF) or name

    def _stored(
        self, name: str, array: Array, dtype: DType, outputs: int | None = None
    ) -> str | None:
        """The name under which a constant lies in another type; None where it overflows.

        `outputs`: of weights, the axis of the output channels.
        """
        if (name, dtype) not in self.casts:
            with np.errstate(over="ignore"):
                narrow = array.astype(numpy_dtype(dtype))
            if outputs is not None:
                narrow = narrowed(array, dtype, outputs)
            if not np.array_equal(np.isfinite(narrow), np.isfinite(array)):
                warn_once(f"{name} is too large for {dtype} and stays float32")
                return None
            self.casts[name, dtype] = self.result.add_initializer(f"{name}.{dtype}", narrow)
        return self.casts[name, dtype]

    def _floats(self, names: Sequence[str]) -> bool:
        return any(n and self._is(n, _SINGLE, self.source) for n in names)

    @staticmethod
    def _is(name: str, dtype: DType, graph: Graph) -> bool:
        return name in graph.values and graph.values[name].dtype is dtype


def _may_overflow(expr: Expr) -> bool:
    """Whether an expression's result may be beyond 65504 though its arguments are ordinary."""
    match expr:
        case Const(value):
            return _TOO_LARGE <= abs(value) < float("inf")
        case Call("where", (_, *choices)):
            return any(map(_may_overflow, choices))
        case Call("min", (_, Const())):
            return False
        case Call("div" | "sqrt" | "tanh" | "erf" | "recip" | "log"):
            return False  # sigmoid, softmax and norms: bounded by their form
        case Call(op, args):
            square = op == "mul" and args[0] == args[1]
            return op in _UNBOUNDED or square or any(map(_may_overflow, args))
        case Cast(_, arg):
            return _may_overflow(arg)
        case _:
            return False


def _half_values(graph: Graph, target: Target | None) -> Graph:
    return run(graph, target, None)


def _half_weights(graph: Graph, target: Target | None) -> Graph:
    return run(graph, target, _HALF)


def _bfloat16_weights(graph: Graph, target: Target | None) -> Graph:
    return run(graph, target, DType.BFLOAT16)


register("bfloat16_weights", _bfloat16_weights)
register("half_values", _half_values)
register("half_weights", _half_weights)
