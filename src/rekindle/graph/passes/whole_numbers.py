"""Quantized arithmetic on the kernels for floats, with the same whole numbers.

Sums of products of bytes are exact in float32 while they stay below 2^24, in whatever order they
are made. Where the weights are constant, the largest sum is known: convolutions and products
below that bound become those of floats, on the tuned kernels and in their layouts. `exact` keeps
transforms such as Winograd's, which round, away from them.

A quantized value is then kept as a float that holds its steps. QuantizeLinear and
DequantizeLinear between two operators become one expression, which fusion carries into the
epilogue of the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rekindle._types import DType, Shape, Target
from rekindle.graph.expr import Arg, Cast, Expr, call, maximum, minimum
from rekindle.graph.ir import OWN_DOMAIN, Array, Graph, Node, Value, numpy_dtype
from rekindle.graph.ops._convolution import frame_of
from rekindle.graph.passes import register
from rekindle.graph.passes._rewrite import constant_input, has_input, is_default, prune

_EXACT = 1 << 24
"""Float32 holds every whole number up to here."""
_BYTES = (DType.INT8, DType.UINT8)
_SMALL = (*_BYTES, DType.INT16, DType.UINT16)


def run(graph: Graph, target: Target | None) -> Graph:
    rewriter = _Rewriter(graph.copy())
    for node in graph.nodes:
        handle = _HANDLERS.get(node.op_type) if is_default(node, node.op_type) else None
        if handle is None or not handle(rewriter, node):
            rewriter.nodes.append(node)
    if not rewriter.changed:
        return graph
    rewriter.graph.nodes = rewriter.nodes
    return prune(rewriter.graph)


@dataclass
class _Rewriter:
    graph: Graph
    nodes: list[Node] = field(default_factory=list)
    steps: dict[str, str] = field(default_factory=dict)
    """Quantized value → the float32 value that holds the same numbers."""
    changed: bool = False

    def add(
        self, node: Node, op_type: str, inputs: tuple[str, ...], output: str, **attrs: Any
    ) -> str:
        self.changed = True
        self.nodes.append(Node(op_type, inputs, (output,), attrs, OWN_DOMAIN, node.name))
        return output

    def value(self, stem: str, shape: Shape | None, dtype: DType = DType.FLOAT32) -> str:
        name = self.graph.fresh(stem)
        self.graph.values[name] = Value(name, dtype, shape)
        return name

    def elementwise(self, node: Node, inputs: tuple[str, ...], output: str, expr: Expr) -> str:
        kind = self.graph.values[output].dtype
        return self.add(node, "Elementwise", inputs, output, expr=expr, dtype=kind)

    def number(self, node: Node, index: int) -> float | None:
        """A constant of one element; 0 where the input is absent, None where it is more."""
        if not has_input(node, index):
            return 0.0
        array = constant_input(self.graph, node, index)
        return None if array is None or array.size != 1 else float(array.reshape(()))

    def as_floats(self, node: Node, name: str, zero: float | str) -> str:
        """A quantized value, less its zero point (a number, or the name of one), in float32."""
        value = self.graph.values[name]
        source = self.steps.get(name, name)
        output = self.value(f"{name}.centred", value.shape)
        expr: Expr = Arg(0) if source != name else Cast(DType.FLOAT32, Arg(0))
        if isinstance(zero, str):
            return self.elementwise(
                node, (source, zero), output, expr - Cast(DType.FLOAT32, Arg(1))
            )
        return self.elementwise(node, (source,), output, expr - zero if zero else expr)

    def quantized(self, node: Node, inputs: tuple[str, ...], real: Expr, zero: float) -> None:
        """Round `real` to whole steps and write them as the node's output."""
        output = node.outputs[0]
        value = self.graph.values[output]
        limits = np.iinfo(numpy_dtype(value.dtype))
        steps = call("round", real) + zero if zero else call("round", real)
        bounded = minimum(maximum(steps, float(limits.min)), float(limits.max))
        kept = self.value(f"{output}.steps", value.shape)
        self.elementwise(node, inputs, kept, bounded)
        self.elementwise(node, (kept,), output, Cast(value.dtype, Arg(0)))
        self.steps[output] = kept


def _quantize(rewriter: _Rewriter, node: Node) -> bool:
    graph = rewriter.graph
    x, out = graph.values[node.inputs[0]], graph.values[node.outputs[0]]
    scale, zero = constant_input(graph, node, 1), rewriter.number(node, 2)
    plain = x.dtype is DType.FLOAT32 and out.dtype in _SMALL
    if not plain or scale is None or scale.size != 1 or zero is None:
        return False
    if scale.dtype != np.float32:
        return False
    rewriter.quantized(node, (x.name,), Arg(0) / float(scale.reshape(())), zero)
    return True


def _dequantize(rewriter: _Rewriter, node: Node) -> bool:
    graph = rewriter.graph
    x, out = graph.values[node.inputs[0]], graph.values[node.outputs[0]]
    scale, zero = constant_input(graph, node, 1), rewriter.number(node, 2)
    plain = x.dtype in _SMALL and out.dtype is DType.FLOAT32
    if not plain or scale is None or scale.size != 1 or zero is None:
        return False
    source = rewriter.steps.get(x.name, x.name)
    steps: Expr = Arg(0) if source != x.name else Cast(DType.FLOAT32, Arg(0))
    steps = steps - zero if zero else steps
    real = steps * float(scale.reshape(()))
    rewriter.elementwise(node, (source,), node.outputs[0], real)
    return True


def _centred(graph: Graph, node: Node, index: int, zero: int, axis: int) -> Array | None:
    """Constant weights less their zero points, as float32; None where they are computed."""
    weights, zeros = constant_input(graph, node, index), constant_input(graph, node, zero)
    if weights is None or (zeros is None and has_input(node, zero)):
        return None
    whole = weights.astype(np.int64)
    if zeros is not None:
        shape = [-1 if d == axis % whole.ndim else 1 for d in range(whole.ndim)]
        if zeros.size > 1 and zeros.ndim > 1:
            return None
        whole = whole - zeros.astype(np.int64).reshape(shape if zeros.size > 1 else ())
    return whole.astype(np.float32)


def _reach(dtype: DType, zero: float | None) -> float:
    """The largest distance from the zero point (None: any) that the dtype allows."""
    limits = np.iinfo(numpy_dtype(dtype))
    if zero is None:
        return float(limits.max) - float(limits.min)
    return max(zero - limits.min, limits.max - zero)


def _fits(weights: Array, filters: int, reach: float, bias: Array | None) -> bool:
    """Whether every sum stays exact; `filters` is the axis of one sum each."""
    axes = tuple(d for d in range(weights.ndim) if d != filters % weights.ndim)
    largest = np.abs(weights.astype(np.float64)).sum(axis=axes) * reach
    if bias is not None:
        largest = largest + np.abs(bias.astype(np.float64))
    return bool(largest.max(initial=0.0) < _EXACT)


def _sums(
    rewriter: _Rewriter, node: Node, x: tuple[str, float | str], weights: Array, bias: Array | None
) -> str:
    """The whole sums of a convolution or product, as float32."""
    graph = rewriter.graph
    centred = rewriter.as_floats(node, *x)
    w = graph.add_initializer(f"{node.outputs[0]}.weights", weights)
    shape = graph.values[node.outputs[0]].shape
    output = rewriter.value(f"{node.outputs[0]}.sums", shape)
    if "Conv" not in node.op_type:
        return rewriter.add(
            node, "MatMul", (centred, w), output,
            transpose_a=False, transpose_b=False, epilogue=None,
        )  # fmt: skip
    b = ""
    if bias is not None:
        b = graph.add_initializer(f"{node.outputs[0]}.bias", bias.astype(np.float32))
    space = graph.values[centred].static_shape[2:]
    kept = {k: v for k, v in node.attrs.items() if k not in ("auto_pad", "pads")}
    pads = frame_of(node, weights.shape[2:]).padding(space)
    return rewriter.add(
        node, "Conv", (centred, w, b), output, epilogue=None, exact=1, pads=pads, **kept
    )


def _ready(rewriter: _Rewriter, node: Node, index: int = 0) -> bool:
    """Whether the node's shapes are known, and its input is computed, of bytes, of rank 2 up."""
    graph = rewriter.graph
    x, out = graph.values[node.inputs[index]], graph.values[node.outputs[0]]
    return (
        x.is_static and out.is_static and len(x.static_shape) > 1 and x.dtype in _BYTES
        and graph.constant(x.name) is None and 0 not in (*x.static_shape, *out.static_shape)
    )  # fmt: skip


def _integer(rewriter: _Rewriter, node: Node) -> bool:
    """ConvInteger and MatMulInteger; the zero point of x may be computed."""
    graph = rewriter.graph
    filters = 0 if node.op_type == "ConvInteger" else -1
    weights = _centred(graph, node, 1, 3, filters)
    if not _ready(rewriter, node) or weights is None or weights.ndim < 2:
        return False
    x = graph.values[node.inputs[0]]
    number = rewriter.number(node, 2)
    if number is None and graph.values[node.inputs[2]].shape not in ((), (1,)):
        return False
    if filters and weights.ndim > 2:
        return False
    if not _fits(weights, filters, _reach(x.dtype, number), None):
        return False
    zero = node.inputs[2] if number is None else number
    sums = _sums(rewriter, node, (x.name, zero), weights, None)
    rewriter.elementwise(node, (sums,), node.outputs[0], Cast(DType.INT32, Arg(0)))
    return True


def _linear(rewriter: _Rewriter, node: Node) -> bool:
    """QLinearConv and QLinearMatMul with constant weights and parameters."""
    graph, convolution = rewriter.graph, node.op_type == "QLinearConv"
    filters = 0 if convolution else -1
    weights = _centred(graph, node, 3, 5, filters)
    scales = [constant_input(graph, node, i) for i in (1, 4, 6)]
    zeros = rewriter.number(node, 2), rewriter.number(node, 7)
    bias = constant_input(graph, node, 8)
    if not _ready(rewriter, node) or weights is None or weights.ndim < 2:
        return False
    if None in zeros or (bias is None and has_input(node, 8)) or (filters and weights.ndim > 2):
        return False
    x_scale, w_scale, scale = scales
    if x_scale is None or w_scale is None or scale is None or x_scale.size * scale.size != 1:
        return False
    if x_scale.dtype != np.float32 or w_scale.ndim > 1:
        return False
    x, (x_zero, zero) = graph.values[node.inputs[0]], zeros
    assert x_zero is not None
    assert zero is not None
    if not _fits(weights, filters, _reach(x.dtype, x_zero), bias):
        return False
    sums = _sums(rewriter, node, (x.name, x_zero), weights, bias)
    factor = (x_scale.reshape(()) * w_scale / scale.reshape(())).astype(np.float32)
    if factor.size == 1:
        rewriter.quantized(node, (sums,), Arg(0) * float(factor.reshape(())), zero)
        return True
    rank = len(graph.values[sums].static_shape)
    shape = (1, -1, *(1,) * (rank - 2)) if convolution else (-1,)
    name = graph.add_initializer(f"{node.outputs[0]}.factors", factor.reshape(shape))
    rewriter.quantized(node, (sums, name), Arg(0) * Arg(1), zero)
    return True


_HANDLERS: dict[str, Callable[[_Rewriter, Node], bool]] = {
    "ConvInteger": _integer,
    "DequantizeLinear": _dequantize,
    "MatMulInteger": _integer,
    "QLinearConv": _linear,
    "QLinearMatMul": _linear,
    "QuantizeLinear": _quantize,
}

register("whole_numbers", run)
