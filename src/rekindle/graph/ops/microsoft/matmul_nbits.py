"""MatMulNBits: a product with weights of 2, 4 or 8 bits, quantized in groups along K.

B is (N, groups, bytes), the lowest bits of a byte being the first of its weights; w = (b - zero)
* scale. Zero points are packed as B is, or plain numbers of A's type; without them they are the
middle of the range.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.expr import Arg
from rekindle.graph.ir import Array, Node, dtype_of, numpy_dtype
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._products import product_flops
from rekindle.graph.ops._shapes import merge_dims, optional, required

NAMES = ("com.microsoft::MatMulNBits",)

_BITS = (2, 4, 8)


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    a, b = required(node, inputs, 0), required(node, inputs, 1)
    bits, size = integer(node, "bits", 4), integer(node, "block_size")
    if bits not in _BITS or size < 16 or size & (size - 1):
        raise ModelError(
            f"node {node}: {bits} bits in groups of {size}; known are {_BITS} bits in groups of a "
            "power of two from 16 up"
        )
    if b.dtype is not DType.UINT8 or integer(node, "weight_prepacked", 0):
        raise ModelError(f"node {node}: its weights are {b.dtype}, or packed for one processor")
    count, depth = integer(node, "N"), integer(node, "K")
    expected = (count, -(-depth // size), size * bits // 8)
    if b.shape is not None and b.shape != expected:
        raise ModelError(f"node {node}: its weights are {list(b.shape)}, expected {list(expected)}")
    if a.shape is None:
        return (TensorType(a.dtype, None),)
    merge_dims(node, a.shape[-1], depth)
    return (TensorType(a.dtype, (*a.shape[:-1], count)),)


def _unpacked(packed: Array, bits: int) -> Array:
    """The last axis with each byte's numbers one after another, lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return parts.reshape(*packed.shape[:-1], -1)


def weights(node: Node, inputs: Sequence[Array | None]) -> Array:
    """(N, K) in float64."""
    b, scales, zeros = required(node, inputs, 1), required(node, inputs, 2), optional(inputs, 3)
    bits, count, depth = integer(node, "bits", 4), integer(node, "N"), integer(node, "K")
    values = _unpacked(b, bits).astype(np.float64)
    groups = values.shape[1]
    if zeros is None:
        middle: Array = np.full((count, groups), 1 << (bits - 1))
    elif zeros.dtype == np.uint8:
        middle = _unpacked(zeros.reshape(count, -1), bits)[:, :groups]
    else:
        middle = wide(zeros).reshape(count, groups)
    scale = wide(scales).reshape(count, groups, 1)
    if optional(inputs, 4) is not None:
        return _by_index(values, middle, scale, required(node, inputs, 4))[:, :depth]
    return ((values - middle[..., None]) * scale).reshape(count, -1)[:, :depth]


def codes(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, Array] | None:
    """(N, K) int8 without zero points and scales (N, groups); None where there are no such."""
    b, scales = inputs[1], inputs[2]
    absent = any(n and c is None for n, c in zip(node.inputs[1:4], inputs[1:4], strict=False))
    if b is None or scales is None or absent:
        return None
    if len(node.inputs) > 4 and node.inputs[4]:
        return None
    ones = [*inputs[:2], np.ones(scales.shape, np.float64), *inputs[3:4]]
    plain = weights(node, ones)
    whole = np.asarray(plain.clip(-128, 127).round())
    if not np.array_equal(whole, plain):
        return None
    return whole.astype(np.int8), scales.reshape(len(whole), -1).astype(np.float32)


def _by_index(values: Array, middle: Array, scale: Array, index: Array) -> Array:
    """Column k belongs to group index[k]."""
    flat = values.reshape(len(values), -1)[:, : index.size]
    found: Array = (flat - middle[:, index]) * scale[:, index, 0]
    return found


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    a, bias = required(node, inputs, 0), optional(inputs, 5)
    y = wide(a) @ weights(node, inputs).T
    if bias is not None:
        y = y + wide(bias)
    return (rounded(y, dtype_of(a)),)


def _lower(lowering: Lowering) -> None:
    """A product with the weights as numbers, made when the plan is."""
    node, a = lowering.node, lowering.input(0)
    constants = [None, *(lowering.constant(i) for i in range(1, 5))]
    for index in range(1, 5):
        if lowering.has_input(index) and constants[index] is None:
            raise NotLowered("its weights are computed at run time")
    matrix = weights(node, constants).T.astype(numpy_dtype(a.dtype))
    w = lowering.literal(np.ascontiguousarray(matrix))
    bias = [lowering.input(5)] if lowering.has_input(5) else []
    lowering.call(
        "matmul", (a, w, *bias), lowering.output,
        transpose_a=False, transpose_b=False, epilogue=Arg(0) + Arg(1) if bias else None,
    )  # fmt: skip


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    return product_flops(required(node, inputs, 0).shape, outputs[0].shape)


register(
    "com.microsoft::MatMulNBits",
    Operator(since=1, infer=_infer, reference=_reference, lower=_lower, flops=_flops),
)
