"""Transpose: axes in another order; reversed without `perm`."""

from __future__ import annotations

from collections.abc import Sequence

from rekindle._errors import ModelError
from rekindle.graph.ir import Array, Node
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integers
from rekindle.graph.ops._copies import Walk, copy, row_major
from rekindle.graph.ops._shapes import required


def _permutation(node: Node, rank: int) -> tuple[int, ...]:
    perm = integers(node, "perm")
    if perm is None:
        return tuple(reversed(range(rank)))
    if sorted(perm) != list(range(rank)):
        raise ModelError(f"node {node}: perm {list(perm)} does not order {rank} axes")
    return perm


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    if x.shape is None:
        return (TensorType(x.dtype, None),)
    shape = x.shape
    return (TensorType(x.dtype, tuple(shape[i] for i in _permutation(node, len(shape)))),)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = required(node, inputs, 0)
    return (x.transpose(_permutation(node, x.ndim)),)


def _lower(lowering: Lowering) -> None:
    x, out = lowering.input(0), lowering.output
    shape = x.static_shape
    perm = _permutation(lowering.node, len(shape))
    moved = [axis for axis in perm if shape[axis] != 1]
    if moved == sorted(moved):
        lowering.call("view", (x,), out)
        return
    steps = row_major(shape)
    source = Walk(tuple(steps[axis] for axis in perm))
    copy(lowering, x, out, out.static_shape, source, Walk(row_major(out.static_shape)))


register("Transpose", Operator(since=1, infer=_infer, reference=_reference, lower=_lower))
