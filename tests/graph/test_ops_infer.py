"""Types with symbolic dimensions and unknown ranks, and malformed nodes refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rekindle._errors import ModelError
from rekindle._types import Dim, DType
from rekindle.graph import ops
from rekindle.graph.ir import Node, dtype_of
from rekindle.graph.ops import Operand

F = DType.FLOAT32
Shape = tuple[Dim, ...] | None


def infer(
    operator: str, inputs: list[Any], attrs: dict[str, Any] | None = None, *, opset: int = 21
) -> list[Shape]:
    """Output shapes; an input is a shape of floats (None: unknown rank) or a constant array."""
    operands = [
        Operand(dtype_of(i), i.shape, i) if isinstance(i, np.ndarray) else Operand(F, i)
        for i in inputs
    ]
    outputs = tuple(f"y{i}" for i in range(3 if operator == "Split" else 1))
    names = tuple(f"x{i}" for i in range(len(inputs)))
    node = Node(operator, names, outputs, attrs or {}, name="suspect")
    found = ops.find(operator, opset)
    assert found is not None
    return [t.shape for t in ops.infer(found, node, operands)]


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("operator", "inputs", "attrs", "expected"),
    [
        ("Relu", [("N", 3)], {}, ("N", 3)),
        ("Add", [("N", 1, "W"), (4, 1)], {}, ("N", 4, "W")),
        ("Add", [("N",), ("M",)], {}, ("N",)),
        ("Add", [None, (4,)], {}, None),
        ("Conv", [("N", 3, "H", 8), (4, 3, 3, 3)], {"pads": [1] * 4}, ("N", 4, "H", 8)),
        ("Conv", [("N", 3, "H", 8), (4, 3, 3, 3)], {}, ("N", 4, "(H-2)", 6)),
        (
            "Conv",
            [("N", 3, "H", 9), (4, 3, 3, 3)],
            {"strides": [2, 2], "pads": [1] * 4},
            ("N", 4, "floor((H-1)/2)+1", 5),
        ),
        (
            "Conv",
            [("N", 3, "H", 9), (4, 3, 3, 3)],
            {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
            ("N", 4, "ceil(H/2)", 5),
        ),
        ("Conv", [("N", "C", 8), (4, 3, 3)], {}, ("N", 4, 6)),
        ("MaxPool", [("N", 3, 7)], {"kernel_shape": [2], "strides": [2]}, ("N", 3, 3)),
        ("GlobalAveragePool", [("N", 3, "H", "W")], {}, ("N", 3, 1, 1)),
        ("MatMul", [("N", 7, 5), (5, 2)], {}, ("N", 7, 2)),
        ("MatMul", [(5,), ("B", 5, 2)], {}, ("B", 2)),
        ("Gemm", [("N", 5), (2, 5), (2,)], {"transB": 1}, ("N", 2)),
        ("Flatten", [("N", 8, 7, 7)], {}, ("N", 392)),
        ("Flatten", [("N", "C", 7)], {}, ("N", "C*7")),
        ("Flatten", [("N", "C", 7)], {"axis": 2}, ("C*N", 7)),
        ("Reshape", [("N", 8, 4), ints(0, -1)], {}, ("N", 32)),
        ("Reshape", [("N", 8, 4), ints(-1, 32)], {}, ("N", 32)),
        ("Reshape", [("N", 8, 4), ints(-1, 8)], {}, ("N*4", 8)),
        ("Reshape", [("N", 8, 4), ints(-1, 7)], {}, ("y0.0", 7)),
        ("Reshape", [None, ints(2, 3)], {}, (2, 3)),
        ("Reshape", [("N", 8), (2,)], {}, ("y0.0", "y0.1")),
        ("Squeeze", [("N", 8, 1), ints(-1)], {}, ("N", 8)),
        ("Squeeze", [("N", 8, 1)], {}, None),
        ("Unsqueeze", [("N", 8), ints(0, -1)], {}, (1, "N", 8, 1)),
        ("Transpose", [("N", 8, 1)], {"perm": [2, 0, 1]}, (1, "N", 8)),
        ("Concat", [("N", 2), ("N", "C")], {"axis": 1}, ("N", "C+2")),
        ("Concat", [("N", 2), (3, 5)], {"axis": -1}, (3, 7)),
        ("Split", [("N", "C")], {"axis": 1}, ("N", "C/3")),
        ("Slice", [("N", 8), ints(0), ints(2**31 - 1), ints(0)], {}, ("N", 8)),
        ("Slice", [("N", 8), ints(1), ints(-1), ints(1)], {}, ("N", 6)),
        ("Slice", [("N", 8), ints(1), ints(9), ints(0)], {}, ("y0.0", 8)),
        ("Pad", [("N", 8), ints(0, 1, 2, 1)], {}, ("(N+2)", 10)),
        ("Gather", [("N", 8), ints(1).reshape(())], {"axis": 1}, ("N",)),
        ("Expand", [("N", 1), ints(1, 5)], {}, ("N", 5)),
        ("Tile", [("N", 2), ints(1, 3)], {}, ("N", 6)),
        ("Shape", [("N", 2)], {}, (2,)),
        ("Shape", [None], {}, ("y0.0",)),
        ("ReduceMean", [("N", 8, "W"), ints(-1)], {}, ("N", 8, 1)),
        ("ReduceMean", [("N", 8, "W"), ints(1)], {"keepdims": 0}, ("N", "W")),
        ("ReduceMean", [None, ints(1)], {}, None),
        ("Resize", [("N", 3, 4, 4), (0,), np.array([1, 1, 2, 2], "f")], {}, ("N", 3, 8, 8)),
        ("Resize", [("N", 3, "H", 4), (0,), np.array([1, 1, 2, 2], "f")], {}, ("N", 3, "y0.2", 8)),
        ("DepthToSpace", [("N", 8, "H", 3)], {"blocksize": 2}, ("N", 2, "(H*2)", 6)),
        ("NonZero", [("N", 8)], {}, (2, "y0.1")),
        ("TopK", [("N", 8), ints(3)], {}, ("N", 3)),
        ("OneHot", [("N",), ints(9), (2,)], {}, ("N", 9)),
        ("Range", [(), (), ()], {}, ("y0.0",)),
        ("BatchNormalization", [("N", "C", 4), (8,), (8,), (8,), (8,)], {}, ("N", "C", 4)),
        ("LayerNormalization", [("N", 7, 8), (8,), (8,)], {}, ("N", 7, 8)),
        ("Where", [np.ones((1, 3), bool), ("N", 1), (3,)], {}, ("N", 3)),
    ],
)
def test_symbolic_dimensions_pass_through(
    operator: str, inputs: list[Any], attrs: dict[str, Any], expected: Shape
) -> None:
    assert infer(operator, inputs, attrs)[0] == expected


def types_or_refusal(
    version: ops.Operator, node: Node, operands: list[Operand]
) -> tuple[ops.TensorType, ...] | str:
    """What is inferred, or the message of the ModelError; any other error is a failure."""
    try:
        return ops.infer(version, node, operands)
    except ModelError as error:
        return str(error)


@pytest.mark.parametrize("operator", ops.REGISTRY.names())
def test_unknown_ranks_and_symbols_never_crash(operator: str) -> None:
    """Every version takes operands it knows nothing of, or refuses them with a ModelError."""
    for version in ops.REGISTRY.get(operator):
        for shape in (None, ("N",), ("N", "C", "H", "W"), ("N", 3, "H", "W"), (), (0, 3, 2, 2)):
            for count in range(6):
                node = Node(operator, tuple(f"x{i}" for i in range(count)), ("y",))
                found = types_or_refusal(version, node, [Operand(F, shape)] * count)
                assert str(node) in found if isinstance(found, str) else found


@pytest.mark.parametrize(
    ("operator", "inputs", "attrs", "message"),
    [
        ("Add", [(3,), (4,)], {}, "do not broadcast"),
        ("Add", [(3,), ints(1, 2, 3)], {}, "one dtype"),
        ("Add", [(3,)], {}, "lacks its input 1|has 1 inputs"),
        ("Not", [(3,)], {}, "takes bool"),
        ("Relu", [], {}, "lacks its input 0"),
        ("Conv", [(1, 3, 8, 8), (4, 2, 3, 3)], {}, "must be equal"),
        ("Conv", [(1, 3, 8), (4, 3, 3, 3)], {}, "expected"),
        ("Conv", [(1, 3, 8, 8), (4, 3, 3, 3)], {"strides": [2]}, "strides"),
        ("Conv", [(1, 3, 8, 8), (4, 3, 3, 3)], {"strides": [0, 1]}, "strides"),
        ("Conv", [(1, 3, 8, 8), (4, 3, 3, 3)], {"auto_pad": "SOME"}, "auto_pad is 'SOME'"),
        ("Conv", [(1, 3, 8, 8), (4, 3, 3, 3)], {"kernel_shape": [5, 5]}, "kernel_shape"),
        ("Conv", [(1, 3, 2, 2), (4, 3, 3, 3)], {}, "window reaches"),
        ("Conv", [(1, 3, 8, 8), (4, 3, 3, 3)], {"group": 3}, "do not split into 3 groups"),
        ("Conv", [(1, 3, 8, 8), (4, 3, 3, 3), (5,)], {}, "4 and 5"),
        ("MaxPool", [(1, 3, 8, 8)], {}, "kernel_shape"),
        ("MaxPool", [(1, 3, 8, 8)], {"kernel_shape": [2, 0]}, "positive"),
        ("Gemm", [(2, 3, 4), (4, 5)], {}, "two matrices"),
        ("MatMul", [(2, 3), (4, 5)], {}, "3 and 4"),
        ("MatMul", [(), (4, 5)], {}, "scalar"),
        ("Softmax", [(2, 3)], {"axis": 2}, "out of range"),
        ("Softmax", [(2, 3)], {"axis": "last"}, "axis is 'last'"),
        ("Transpose", [(2, 3)], {"perm": [0, 0]}, "does not order"),
        ("Concat", [(2, 3), (2, 3, 1)], {"axis": 0}, "unequal rank"),
        ("Concat", [(2, 3), (2, 4)], {"axis": 0}, "3 and 4"),
        ("Concat", [(2, 3)], {}, "lacks its attribute axis"),
        ("Reshape", [(2, 3), ints(4, -1)], {}, "no whole number"),
        ("Reshape", [(2, 3), ints(5)], {}, "cannot reshape"),
        ("Reshape", [(2, 3), ints(-1, -1)], {}, "more than one -1"),
        ("Reshape", [(2,), ints(2, 0)], {}, "which has none"),
        ("Reshape", [(2,), np.ones((1, 1))], {}, "whole numbers"),
        ("Squeeze", [(2, 3), ints(0)], {}, "is not 1"),
        ("Unsqueeze", [(2, 3), ints(0, 0)], {}, "twice"),
        ("Split", [(5,), ints(1, 1, 1)], {}, "the axis has 5"),
        ("Split", [(5,)], {"num_outputs": 10**12}, "1000000000000 equal parts"),
        ("Reshape", [(5,), (10**12,)], {}, "rank 1000000000000"),
        ("Reshape", [(5,), np.ones(10**5, np.int64)], {}, "whole numbers"),
        ("Slice", [(5,), ints(0), ints(1), ints(0), ints(0)], {}, "do not describe a slice"),
        ("Slice", [(5,), ints(0), ints(1), ints(1)], {}, "out of range"),
        ("Pad", [(5,), ints(0, 1, 2)], {}, "do not give a begin and an end"),
        ("Pad", [(5,), ints(-3, -3)], {}, "crops more"),
        ("Pad", [(5,), ints(1, 1)], {"mode": "mirror"}, "mode is 'mirror'"),
        ("Gather", [(5,), (2,)], {}, "expected int32 or int64"),
        ("Cast", [(5,)], {"to": 99}, "to is 99"),
        ("Cast", [(5,)], {}, "lacks its attribute to"),
        ("ReduceSum", [(5,), ints(1)], {}, "out of range"),
        ("DepthToSpace", [(1, 5, 2, 2)], {"blocksize": 2}, "does not divide"),
        ("Resize", [(1, 1, 2, 2)], {}, "scales or sizes"),
        ("Resize", [(1, 2), (0,), np.array([1, -1], "f")], {}, "must be positive"),
        ("TopK", [(5,), ints(6)], {}, "top 6"),
        ("QuantizeLinear", [(5,), (), np.ones((), np.float32)], {}, "expected an integer"),
        ("Where", [(5,), (5,), (5,)], {}, "expected bool"),
        ("Constant", [], {}, "holds none"),
        ("ConstantOfShape", [ints(-1)], {}, "shape"),
        ("Clip", [(5,), (2,)], {}, "expected a scalar"),
        ("GroupNormalization", [(1, 4, 2), (4,), (4,)], {"num_groups": 3}, "do not split"),
    ],
)
def test_malformed_nodes_are_refused_by_name(
    operator: str, inputs: list[Any], attrs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        infer(operator, inputs, attrs)
    assert f"node {operator} 'suspect' -> y0" in str(caught.value)


@pytest.mark.parametrize("operator", ops.REGISTRY.names())
def test_attributes_of_the_wrong_kind_never_crash(operator: str) -> None:
    keys = (
        "axis", "axes", "kernel_shape", "strides", "pads", "perm", "to", "mode", "alpha", "group",
        "split", "blocksize", "value", "scales", "k", "start", "expr", "dtype",
    )  # fmt: skip
    shapes = [(1, 4, 8, 8), (4, 4, 3, 3), (4,)]
    for version in ops.REGISTRY.get(operator):
        for wrong in ("text", 1.5, [1.5], -99, [], {}, np.ones(2)):
            node = Node(operator, ("x", "w", "b"), ("y",), dict.fromkeys(keys, wrong))
            found = types_or_refusal(version, node, [Operand(F, s) for s in shapes])
            assert str(node) in found if isinstance(found, str) else found


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:Degrees of freedom")
@pytest.mark.parametrize("operator", ops.REGISTRY.names())
def test_arrays_that_do_not_fit_never_crash(operator: str) -> None:
    given = [np.ones(s, d) for s in ((2, 3), (3, 2, 2), (0,), ()) for d in ("f4", "i8", "?", "U3")]
    for version in ops.REGISTRY.get(operator):
        for first in given:
            for second in given:
                node = Node(operator, ("a", "b", "c"), ("y",))
                try:
                    outputs = ops.compute(version, node, [first, second, first])
                except ModelError as error:
                    outputs = (np.array(str(error)),)
                assert all(isinstance(o, np.ndarray) for o in outputs)
