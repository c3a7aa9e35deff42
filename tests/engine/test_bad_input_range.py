"""Shapes that 32-bit indices could not count: planned, not allocated, refused with figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rekindle._types import DType, Layout, Target
from rekindle.engine.index_range import MOST
from rekindle.engine.kernels import Launch, Packed, Workspace
from rekindle.engine.plan import HostStep, Plan, plan
from rekindle.graph import ops
from rekindle.graph.infer import operands_of
from rekindle.graph.ir import OWN_DOMAIN, Array, Graph, Node, Value
from tests.engine.graphs import POLARIS

LARGE = replace(POLARIS, global_bytes=2**50, max_alloc_bytes=2**50)
TARGETS = (LARGE, replace(LARGE, family="cpu", wavefront=8), replace(LARGE, family="generic"))
families = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.family)
FLOAT, BYTE, INT64 = DType.FLOAT32, DType.UINT8, DType.INT64
Given = tuple[DType, tuple[int, ...]] | Array
"""A computed input, or a constant (one number in any shape takes no memory)."""


def number(shape: Sequence[int], value: float = 0.0) -> Array:
    return np.broadcast_to(np.float32(value), shape)


def node_plan(
    op: str, inputs: Sequence[Given], target: Target, block: int = 0, **attrs: Any
) -> Plan:
    """One node planned, its first input and its output blocked by `block` channels."""
    names = [f"x{i}" for i in range(len(inputs))]
    domain, _, kind = op.rpartition("::")
    values, constants = {}, {}
    for name, item in zip(names, inputs, strict=True):
        if isinstance(item, np.ndarray):
            constants[name] = item
            values[name] = Value(name, DType(item.dtype.name), item.shape)
        else:
            values[name] = Value(name, *item, Layout(block if name == "x0" else 0))
    node = Node(kind, tuple(names), ("y",), attrs, domain)
    feeds = tuple(n for n in names if n not in constants)
    opsets = {"": 17, OWN_DOMAIN: 1}
    graph = Graph("g", feeds, ("y",), [node], values, constants, opsets)
    operator = ops.find(node.qualified, graph.opset(domain))
    assert operator is not None
    made = ops.infer(operator, node, operands_of(graph, node))[0]
    values["y"] = Value("y", made.dtype, made.shape, Layout(block))
    return plan(graph, target)


def where(made: Plan) -> str:
    """Whether a kernel takes the node: "device", or the reason why not."""
    (step,) = made.steps
    return step.reason if isinstance(step, HostStep) else "device"


def largest_count(launch: Launch) -> int:
    """The largest number that a kernel of this launch counts to."""
    counts = [math.prod(launch.global_size[:1])]
    for arg in launch.args:
        if isinstance(arg, Value):
            counts.append(math.prod(arg.layout.physical_shape(arg.static_shape)))
        elif isinstance(arg, (Packed, Workspace)):
            counts.append(arg.nbytes // 4)
    return max(counts)


BIG = 2**31
HUGE: list[tuple[str, str, list[Given], dict[str, Any]]] = [
    ("elementwise", "Neg", [(BYTE, (BIG,))], {}),
    ("broadcast", "Add", [(FLOAT, (2**16, 1)), (FLOAT, (1, 2**15))], {}),
    ("copy", "Transpose", [(FLOAT, (2**16, 2**15))], {"perm": (1, 0)}),
    ("gather", "Gather", [(FLOAT, (2, 2**12)), (INT64, (2**19,))], {"axis": 0}),
    ("expand", "Expand", [(BYTE, (1, 2**16)), np.array([2**15, 1])], {}),
    ("reduce", "ReduceMax", [(FLOAT, (2**20, 2**11))], {"axes": (1,)}),
    ("arg_reduce", "ArgMax", [(FLOAT, (2**20, 2**11))], {"axis": 1}),
    ("softmax", "Softmax", [(FLOAT, (2**20, 2**11))], {"axis": 1}),
    ("matmul", "MatMul", [(FLOAT, (2**16, 8)), (FLOAT, (8, 2**15))], {}),
    ("matmul terms", "MatMul", [(FLOAT, (1, BIG)), (FLOAT, (BIG, 1))], {}),
    ("matmul batches", "MatMul", [(FLOAT, (2**29, 2, 2)), (FLOAT, (2**29, 2, 2))], {}),
    ("matmul weights", "MatMul", [(FLOAT, (1, 2**16)), number((2**16, 2**15))], {}),
    ("conv", "Conv", [(FLOAT, (1, 8, 2**14, 2**14)), number((8, 8, 1, 1))], {}),
    ("computed conv", "Conv", [(FLOAT, (8, 8, 2**25)), (FLOAT, (8, 8, 1))], {}),
    ("pool", "MaxPool", [(FLOAT, (1, 8, 2**14, 2**14))], {"kernel_shape": (2, 2)}),
    ("pads", "MaxPool", [(FLOAT, (1, 1, 9))],
     {"kernel_shape": (BIG,), "pads": (BIG - 1, BIG - 1)}),
    ("stride", "Conv", [(FLOAT, (1, 4, 9)), number((4, 4, 1))], {"strides": (2**40,)}),
    ("window", "AveragePool", [(FLOAT, (1, 1, 9, 9, 9))],
     {"kernel_shape": (2000,) * 3, "pads": (1999,) * 6, "count_include_pad": 1}),
]  # fmt: skip


@families
@pytest.mark.parametrize("case", HUGE, ids=lambda c: c[0].replace(" ", "-"))
def test_what_cannot_be_counted_does_not_reach_a_kernel(case: Any, target: Target) -> None:
    _, op, inputs, attrs = case
    reason = where(node_plan(op, inputs, target, **attrs))
    assert reason != "device"
    assert any(c.isdigit() for c in reason), reason


@families
def test_padding_of_blocks_is_counted(target: Target) -> None:
    """One channel of 2^28 pixels lies in 2^28 blocks: 2^32 elements of 16, or 2^30 of 4."""
    block = target.channel_block
    fits = node_plan("Relu", [(FLOAT, (1, 1, 2**14, MOST // block // 2**14 - 1))], target, block)
    assert where(fits) == "device"
    made = node_plan("Relu", [(FLOAT, (1, 1, 2**14, 2**31 // block // 2**14))], target, block)
    assert where(made).startswith("'x0' has 2,147,483,648 elements as it is stored (blocked")


@families
def test_merged_groups_make_weights_larger(target: Target) -> None:
    """Filters of merged groups are stored with zeros for the others' channels."""
    weights, image = number((2**16, 2**10, 3, 3)), (FLOAT, (1, 2**16, 3, 3))
    made = node_plan("Conv", [image, weights], target, target.channel_block, group=64)
    for launch in made.launches():
        assert largest_count(launch) < MOST


@families
def test_the_table_of_batches_is_not_made_before_the_plan_is_accepted(target: Target) -> None:
    made = node_plan("MatMul", [(FLOAT, (2**25, 2, 2)), (FLOAT, (2**25, 2, 2))], target)
    assert where(made) == "device"
    (table,) = (c for key, c in made.constants.items() if key.startswith("offsets:"))
    assert table.nbytes == 2**25 * 2 * 4


SIZES = st.integers(0, 31).map(lambda e: 2**e) | st.sampled_from([3, 5, 127, 4097, 2**31 - 1])


@families
@settings(max_examples=60)
@given(data=st.data())
def test_whatever_is_planned_can_be_counted(target: Target, data: st.DataObject) -> None:
    """Either all that a kernel counts is below the limit, or the host's reason has figures."""
    sizes = data.draw(st.lists(SIZES, min_size=3, max_size=3))
    a, b, c = sizes
    image, few = (FLOAT, (1, a, b, c)), min(b, 2**20)
    forms: list[tuple[str, list[Given], dict[str, Any]]] = [
        ("Relu", [image], {}),
        ("Add", [(FLOAT, (a, 1, c)), (FLOAT, (b, 1))], {}),
        ("Transpose", [(BYTE, (a, b, c))], {"perm": (2, 0, 1)}),
        ("MatMul", [(FLOAT, (a, b)), (FLOAT, (b, c))], {}),
        ("MatMul", [(FLOAT, (a, 1, b)), (FLOAT, (a, b, 2))], {}),
        ("MatMul", [(FLOAT, (a, few)), number((few, c))], {}),
        ("Conv", [image, number((5, a, 1, 1))], {}),
        ("MaxPool", [image], {"kernel_shape": (1, 1)}),
        ("ReduceSum", [(FLOAT, (a, b, c)), np.array([1])], {}),
        ("Softmax", [(FLOAT, (a, b, c))], {"axis": 1}),
        ("ArgMin", [(FLOAT, (a, b, c))], {"axis": 2}),
        ("Concat", [(FLOAT, (a, b)), (FLOAT, (a, c))], {"axis": 1}),
    ]
    op, inputs, attrs = data.draw(st.sampled_from(forms))
    made = node_plan(op, inputs, target, **attrs)
    if where(made) != "device":
        assert "kernels count to 2" in where(made)
    for launch in made.launches():
        assert largest_count(launch) < MOST
