"""Products read quantised weights as integers: their DequantizeLinear becomes a `Decode`.

Weights in other forms than kernels decode (zero points that make nine bits, scales along no
axis of theirs) are decoded here and now.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rekindle._types import Target
from rekindle.graph.decode import Decode
from rekindle.graph.expr import Arg
from rekindle.graph.infer import fold
from rekindle.graph.ir import OWN_DOMAIN, Array, Graph, Node
from rekindle.graph.ops._attributes import integer
from rekindle.graph.ops.microsoft.matmul_nbits import codes
from rekindle.graph.passes import register
from rekindle.graph.passes._products import with_epilogue
from rekindle.graph.passes._rewrite import constant_input, has_input, prune


def run(graph: Graph, target: Target | None) -> Graph:
    result = graph.copy()
    makers = graph.producers()
    nodes = [_n_bits(result, node) or _decoding(result, node, makers) for node in graph.nodes]
    if nodes == graph.nodes and all(n.op_type != "DequantizeLinear" for n in nodes):
        return graph
    read = {n for node in nodes for n in node.inputs} | set(graph.outputs)
    result.nodes = [n for n in nodes if n.op_type != "DequantizeLinear" or n.outputs[0] in read]
    return prune(fold(result, weights=True))


def _decoding(graph: Graph, node: Node, makers: dict[str, Node]) -> Node:
    """A product on the integers behind its weights; other nodes as they are."""
    maker = makers.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if maker is None or maker.op_type != "DequantizeLinear":
        return node
    whole = with_epilogue(graph, node)
    found = _decode(graph, maker, whole) if whole is not None else None
    if whole is None or found is None:
        return node
    integers, decode = found
    name = maker.inputs[0]
    if integers is not graph.constant(name):
        name = graph.add_initializer(f"{maker.outputs[0]}.integers", integers)
    inputs = (whole.inputs[0], name, *whole.inputs[2:])
    dtype = graph.values[whole.outputs[0]].dtype
    attrs = {**whole.attrs, "decode": decode, "dtype": dtype}
    return replace(whole, inputs=inputs, attrs=attrs)


def _decode(graph: Graph, maker: Node, whole: Node) -> tuple[Array, Decode] | None:
    """int8 weights without a zero point and their scales; None where they do not fit."""
    q, scale, zero = (constant_input(graph, maker, i) for i in range(3))
    if q is None or scale is None or q.ndim < 2 or (zero is None and has_input(maker, 2)):
        return None
    axis = integer(maker, "axis", 1) % q.ndim
    group = integer(maker, "block_size", 0)
    inputs = 1 if whole.op_type == "Conv" or whole.attr("transpose_b") else q.ndim - 2
    outputs = 0 if whole.op_type == "Conv" else (q.ndim - 2 if inputs == 1 else q.ndim - 1)
    if scale.ndim <= 1:
        if scale.size > 1 and axis != outputs:
            return None
        group, sizes = 0, [1] * q.ndim
        sizes[axis] = scale.size
        scale = scale.reshape(sizes)
        zero = zero.reshape(sizes) if zero is not None else None
    elif axis != inputs or whole.attr("group", 1) != 1:
        return None
    decode = Decode(np.asarray(scale, np.float32), axis, group)
    integers = q if zero is None or not zero.any() else _without_zero(q, zero, decode)
    small = integers.dtype == np.int8 or (integers.min() >= -128 and integers.max() <= 127)
    return (integers.astype(np.int8, copy=False), decode) if small else None


def _without_zero(q: Array, zero: Array, decode: Decode) -> Array:
    """The integers less their zero points, which have the form of the scales."""
    points = replace(decode, scale=zero.astype(np.int16)).spread(q.shape)
    return np.asarray(q.astype(np.int16) - points)


def _n_bits(graph: Graph, node: Node) -> Node | None:
    """com.microsoft::MatMulNBits as a product on its integers; None for other nodes."""
    if node.qualified != "com.microsoft::MatMulNBits":
        return None
    static = all(graph.values[n].is_static for n in (node.inputs[0], node.outputs[0]))
    found = codes(node, [constant_input(graph, node, i) for i in range(len(node.inputs))])
    if not static or found is None or len(graph.values[node.inputs[0]].static_shape) < 2:
        return None
    integers, scale = found
    name = graph.add_initializer(f"{node.outputs[0]}.integers", integers)
    bias = (node.inputs[5],) if has_input(node, 5) else ()
    attrs = {
        "transpose_a": False,
        "transpose_b": True,
        "epilogue": Arg(0) + Arg(1) if bias else None,
        "decode": Decode(scale, 1, integer(node, "block_size")),
    }
    inputs = (node.inputs[0], name, *bias)
    return Node("MatMul", inputs, node.outputs, attrs, OWN_DOMAIN, node.name)


register("packed_weights", run)
