"""Odd numbers and odd shapes through every family of operators, against ONNX's own judges.

NaN and infinity, the ends of the integer types, tensors without elements, without axes, and of
rank 8. A node must give what ONNX's Python reference and ONNX Runtime agree on, or what the one of
them gives that knows it. Where they differ, OURS says whom we follow, and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from odd_nodes import OddNode, onnx_reference, onnx_runtime, run, same

from rekindle._errors import ModelError

pytestmark = pytest.mark.opencl
NAN, INF = np.nan, np.inf
ONNX, ORT = "ONNX's reference", "ONNX Runtime"
OURS = {
    # NaN is never lost: the reference's answer; ONNX Runtime's depends on the position.
    "Clip between NaN": ONNX, "ReduceMax rows": ONNX, "ReduceMax columns": ONNX,
    "ReduceMin rows": ONNX, "ReduceMin columns": ONNX, "GlobalMaxPool": ONNX, "AveragePool": ORT,
    # The logarithm of nothing but zeros is minus infinity.
    "ReduceLogSumExp rows": ORT,
    # A scan from the front, which NaN neither wins nor loses; the reference finds NaN itself.
    "ArgMax rows": ORT, "ArgMax columns": ORT, "ArgMin rows": ORT, "ArgMin columns": ORT,
    "last ArgMax rows": ORT, "last ArgMax columns": ORT, "last ArgMin rows": ORT,
    "last ArgMin columns": ORT,
    # NaN counts as the greatest, as NumPy and PyTorch sort it.
    "TopK": ONNX, "TopK smallest": ONNX,
    # 64-bit integers through a double, or clamped where they overflow: ours wrap.
    "fmod int64": ONNX, "fmod uint64": ONNX, "Pow int64": ONNX, "Pow int32": ONNX,
    "ReduceSum int64": ONNX, "ReduceL1 int64": ONNX, "ReduceSumSquare int64": ONNX,
    "ReduceL1 int32": ONNX,
    # The mean of nothing.
    "ReduceMean axis 0 0x3": ONNX, "ReduceMean axis 1 2x0x3": ONNX,
    "NonZero 0-d": ONNX,
}  # fmt: skip
NEITHER = {
    "MaxPool": "NaN where a window holds one; theirs depends on where in the window it stands",
    "Hardmax": "1 where ArgMax points; theirs are two further readings of NaN",
}


def check(nodes: Sequence[OddNode]) -> None:
    """Device and our reference against the judges, and against each other."""
    device, reference = run(nodes, "OPENCL"), run(nodes, "CPU")
    wrong = []
    for node in nodes:
        name = node.name.replace("_", " ")
        if not same(device[node.name], reference[node.name]):
            wrong.append(f"{name}: device {device[node.name]}, reference {reference[node.name]}")
        judges = {ONNX: onnx_reference(node), ORT: onnx_runtime(node)}
        known = {who: said for who, said in judges.items() if not isinstance(said, str)}
        assert known, f"{name}: {judges}"
        if len(known) == 2 and not same(known[ONNX], known[ORT]):
            if name in NEITHER:
                continue
            assert name in OURS, f"the judges differ on {name}: {known}"
            known = {OURS[name]: known[OURS[name]]}
        for who, said in known.items():
            if not same(device[node.name], said):
                wrong.append(f"{name}: device {device[node.name]}, {who} {said}")
    assert not wrong, "\n".join(wrong)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def empty(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


SPECIAL = np.array([NAN, 1, -INF, INF, 0, -0.0, 3, -2, NAN], np.float32)
ROWS = np.array(
    [[1, NAN, 3], [NAN, 1, 2], [1, 2, NAN], [INF, -INF, 1], [NAN] * 3, [INF, INF, 1], [-INF] * 3],
    np.float32,
)
UNARY = (
    "Relu", "Sigmoid", "Tanh", "Exp", "Log", "Sqrt", "Abs", "Neg", "Floor", "Ceil", "Round", "Sign",
    "Erf", "Softplus", "Softsign", "Elu", "LeakyRelu", "HardSigmoid", "HardSwish", "Reciprocal",
    "IsNaN", "IsInf", "Mish", "Gelu", "ThresholdedRelu",
)  # fmt: skip
REDUCTIONS = (
    "ReduceMax", "ReduceMin", "ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare",
)  # fmt: skip


def special_nodes() -> Iterator[OddNode]:
    def node(name: str, op: str, inputs: Sequence[Any], **attrs: Any) -> OddNode:
        constants = attrs.pop("constants", ())
        return OddNode(name, op, inputs, attrs, constants, attrs.pop("outputs", 1), 20)

    yield from (node(op, op, [SPECIAL]) for op in UNARY)
    pair = [a.copy() for a in np.meshgrid(SPECIAL[:7], SPECIAL[:7])]
    for op in ("Max", "Min", "Add", "Mul", "Div", "Pow", "Less", "Equal", "GreaterOrEqual"):
        yield node(op, op, pair)
    yield node("fmod", "Mod", pair, fmod=1)
    for name, low, high in (("", -1, 2), ("_between_NaN", NAN, 2), ("_crossed", 3, -3)):
        limits = [np.float32(low), np.float32(high)]
        yield node(f"Clip{name}", "Clip", [SPECIAL, *limits], constants=(1, 2))
    for axis, which in ((1, "rows"), (0, "columns")):
        for op in REDUCTIONS:
            yield node(f"{op}_{which}", op, [ROWS, whole(axis)], constants=(1,))
        for op in ("ArgMax", "ArgMin"):
            yield node(f"{op}_{which}", op, [ROWS], axis=axis)
            yield node(f"last_{op}_{which}", op, [ROWS], axis=axis, select_last_index=1)
        for op in ("Softmax", "LogSoftmax"):
            yield node(f"{op}_{which}", op, [ROWS], axis=axis)
    yield node("Hardmax", "Hardmax", [ROWS], axis=1)
    for name, largest in (("TopK", 1), ("TopK_smallest", 0)):
        attrs = {"axis": 1, "largest": largest}
        yield OddNode(name, "TopK", [ROWS, whole(2)], attrs, (1,), 2, 20)
    image = np.arange(49, dtype=np.float32).reshape(1, 1, 7, 7)
    image[0, 0, [0, 3, 5, 6], [0, 3, 5, 6]] = NAN, NAN, INF, -INF
    yield node("MaxPool", "MaxPool", [image], kernel_shape=(2, 2))
    yield node("AveragePool", "AveragePool", [image], kernel_shape=(2, 2))
    yield node("GlobalMaxPool", "GlobalMaxPool", [image])
    yield node("GlobalAveragePool", "GlobalAveragePool", [image])
    yield node("MatMul", "MatMul", [ROWS, np.ones((3, 4), np.float32)])
    yield node("Conv", "Conv", [image, empty(1, 1, 2, 2)], constants=(1,))
    yield node("LayerNormalization", "LayerNormalization", [ROWS, np.ones(3, np.float32)])
    yield node("CumSum", "CumSum", [ROWS, np.array(1)], constants=(1,))
    for to in (9, 10, 11, 16):  # bool, float16, double, bfloat16
        yield node(f"Cast_to_{to}", "Cast", [SPECIAL], to=to)


def integer_nodes(dtype: Any) -> Iterator[OddNode]:
    kind, limits = np.dtype(dtype).name, np.iinfo(dtype)
    ends = [limits.min, limits.min + 1, 0, 1, limits.max - 1, limits.max, 2, 3]
    x = np.array(ends + ([-1, -2] if limits.min else []), dtype)
    a, b = (v.copy() for v in np.meshgrid(x, x))
    divisor = np.where((b == 0) | ((b < 1) & (b > -2)), 7, b).astype(dtype)

    def node(op: str, inputs: Sequence[Any], name: str = "", **attrs: Any) -> OddNode:
        constants = attrs.pop("constants", ())
        return OddNode(f"{name or op}_{kind}", op, inputs, attrs, constants)

    for op in ("Add", "Sub", "Mul", "Max", "Min", "Equal", "Less", "GreaterOrEqual"):
        yield node(op, [a, b])
    yield node("Div", [a, divisor])
    yield node("Mod", [a, divisor])
    yield node("Mod", [a, divisor], "fmod", fmod=1)
    yield node("Pow", [v.copy() for v in np.meshgrid(x, np.array([0, 1, 2, 3, 5, 7], dtype))])
    yield from (node(op, [x]) for op in ("Abs", "Sign", *(("Neg",) if limits.min else ())))
    inner = [np.array(limits.min + 1, dtype), np.array(limits.max - 1, dtype)]
    yield node("Clip", [x, *inner], constants=(1, 2))
    yield node("Clip", [x, *inner], "Clip_computed")
    for op in ("ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd", "ReduceL1"):
        yield node(op, [a, whole(1)], constants=(1,))
    if dtype == np.int64:  # the reference widens the others
        yield node("ReduceSumSquare", [a, whole(1)], constants=(1,))
    yield from (node(op, [a], axis=1) for op in ("ArgMax", "ArgMin"))
    yield from (node("Cast", [x], f"Cast_to_{to}", to=to) for to in (1, 2, 3, 5, 6, 7, 9, 12, 13))
    yield node("Where", [x > 1, x, x[::-1].copy()])
    yield node("Gather", [x, whole(0, -1, 5)])


def empty_nodes() -> Iterator[OddNode]:
    for shape in ((0,), (0, 3), (2, 0, 3)):
        x, label = empty(*shape), "x".join(map(str, shape))

        def node(op: str, inputs: Sequence[Any], name: str = "", **attrs: Any) -> OddNode:
            constants = attrs.pop("constants", ())
            return OddNode(f"{name or op}_{label}", op, inputs, attrs, constants)  # noqa: B023

        for op in ("Relu", "Sigmoid", "Softmax", "LogSoftmax", "Identity", "IsNaN", "Shape",
                   "NonZero", "Transpose"):  # fmt: skip
            yield node(op, [x])
        yield from (node(op, [x, x]) for op in ("Add", "Less"))
        yield node("Add", [x, np.ones(1, np.float32)], "Add_one")
        for op in REDUCTIONS:
            for axis in range(len(shape)):
                if shape[axis] or (op != "ReduceMean" or len(shape) > 1):
                    yield node(op, [x, whole(axis)], f"{op}_axis_{axis}", constants=(1,))
        yield from (node("ArgMax", [x], axis=axis) for axis in range(len(shape) - 1, 0, -2))
        yield node("Concat", [x, x], axis=0)
        yield node("Cast", [x], to=7)
        yield node("Pad", [x, np.ones(2 * len(shape), np.int64)], constants=(1,))
        yield node("Tile", [x, np.full(len(shape), 2)], constants=(1,))
        yield node("CumSum", [x, np.array(0)], constants=(1,))
    yield from more_empty_nodes()


def more_empty_nodes() -> Iterator[OddNode]:
    def node(name: str, op: str, inputs: Sequence[Any], **attrs: Any) -> OddNode:
        constants = attrs.pop("constants", ())
        return OddNode(name, op, inputs, attrs, constants, attrs.pop("outputs", 1))

    image, indices = empty(0, 3, 5, 5), empty(0, 5, dtype=np.int64)
    yield node("join_with_nothing", "Concat", [empty(0, 3), normal(2, 3)], axis=0)
    yield node("slice_nothing", "Slice", [normal(4, 5), whole(3), whole(3)], constants=(1, 2))
    yield node("gather_nothing", "Gather", [normal(4, 5), empty(2, 0, dtype=np.int64)], axis=1)
    yield node("scatter_nothing", "ScatterElements", [normal(4, 5), indices, empty(0, 5)])
    yield node("no_rows", "MatMul", [empty(0, 3), normal(3, 4)])
    yield node("no_terms", "MatMul", [empty(2, 0), empty(0, 4)])
    yield node("no_constant_terms", "MatMul", [empty(2, 0), empty(0, 4)], constants=(1,))
    yield node("no_columns", "MatMul", [normal(2, 3), empty(3, 0)])
    yield node("no_batch", "MatMul", [empty(0, 2, 3), normal(3, 4)])
    yield node("Gemm_without_terms", "Gemm", [empty(2, 0), empty(0, 4), normal(4)])
    weights = normal(4, 3, 3, 3)
    yield node("no_images", "Conv", [image, weights, normal(4)], constants=(1, 2))
    yield node("no_images_computed", "Conv", [image, weights])
    yield node("ConvTranspose", "ConvTranspose", [image, normal(3, 4, 3, 3)], constants=(1,))
    yield from (node(op, op, [image], kernel_shape=(2, 2)) for op in ("MaxPool", "AveragePool"))
    yield from (node(op, op, [image]) for op in ("GlobalAveragePool", "GlobalMaxPool"))
    ones = [np.ones(3, np.float32)] * 4
    yield node("norm", "BatchNormalization", [image, *ones], constants=(1, 2, 3, 4))
    yield node("layer_norm", "LayerNormalization", [empty(0, 3), ones[0]], constants=(1,))
    scales = np.array([1, 1, 2, 2], np.float32)
    yield node("resize", "Resize", [image, None, scales], constants=(2,))
    parts = OddNode("part", "Split", [normal(4), whole(0, 4)], {}, (1,), 2)
    yield parts
    yield node("expand", "Expand", [normal(1, 3), whole(0, 3)], constants=(1,))
    yield node("of_shape", "ConstantOfShape", [whole(0, 3)], constants=(0,))
    yield node("einsum", "Einsum", [empty(2, 0), empty(0, 2)], equation="ij,jk->ik")
    yield node("depth", "DepthToSpace", [empty(0, 4, 2, 2)], blocksize=2)
    yield node("bytes", "MatMulInteger", [empty(0, 3, dtype=np.uint8), np.ones((3, 2), np.uint8)])


def scalar_nodes() -> Iterator[OddNode]:
    x, two = np.array(-1.5, np.float32), np.array(2, np.float32)

    def node(op: str, inputs: Sequence[Any], name: str = "", **attrs: Any) -> OddNode:
        constants = attrs.pop("constants", ())
        return OddNode(f"{name or op}_0-d", op, inputs, attrs, constants)

    for op in ("Relu", "Exp", "Neg", "Abs", "Identity", "Erf", "Shape", "Size", "NonZero"):
        yield node(op, [x])
    yield from (node(op, [x, two]) for op in ("Add", "Mul", "Div", "Pow", "Less", "Max"))
    for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2"):
        yield node(op, [x], f"{op}_of")
        yield node(op, [normal(3, 4)], f"{op}_to", keepdims=0)
    yield node("Gather", [normal(4), np.array(2)])
    yield node("Unsqueeze", [x, whole(0)], constants=(1,))
    yield node("Reshape", [normal(1), empty(0, dtype=np.int64)], constants=(1,))
    yield node("Expand", [x, whole(2, 3)], constants=(1,))
    yield node("Clip", [x, np.float32(-1), np.float32(1)], constants=(1, 2))
    yield node("Where", [np.array(True), x, two])
    yield node("MatMul", [normal(5), normal(5)])


def rank_8_nodes() -> Iterator[OddNode]:
    x, other = normal(2, 1, 3, 1, 2, 2, 1, 3), normal(1, 2, 1, 2, 2, 1, 2, 1)

    def node(op: str, inputs: Sequence[Any], name: str = "", **attrs: Any) -> OddNode:
        constants = attrs.pop("constants", ())
        return OddNode(name or op, op, inputs, attrs, constants)

    yield node("Relu", [x])
    yield node("Softmax", [x], axis=2)
    yield node("Add", [x, other])
    yield node("Mul", [normal(*(2, 3) * 4), normal(*(2, 1) * 4)])
    yield node("Transpose", [x], perm=(7, 2, 4, 0, 6, 1, 3, 5))
    yield node("Transpose", [normal(*(2, 3) * 4)], "turn", perm=(1, 3, 5, 7, 0, 2, 4, 6))
    yield node("ReduceSum", [x, whole(0, 4, 7)], constants=(1,))
    yield node("ReduceMax", [x, whole(2, 5)], constants=(1,))
    yield node("ArgMax", [x], axis=4)
    yield node("Concat", [x, x], axis=4)
    bounds = [whole(0, 2), whole(1, -9), whole(7, 2), whole(1, -1)]
    yield node("Slice", [x, *bounds], constants=(1, 2, 3, 4))
    yield node("Gather", [x, whole(1, 0, 1)], axis=4)
    yield node("MatMul", [normal(1, 2, 1, 2, 1, 2, 3, 4), normal(2, 1, 2, 1, 2, 1, 4, 5)])
    yield node("Expand", [other, whole(3, 2, 3, 2, 2, 2, 2, 3)], constants=(1,))
    yield node("Pad", [x, whole(*[1] * 8, *[0] * 8)], constants=(1,))
    yield node("Where", [x > 0, x, other])
    yield node("LayerNormalization", [x, normal(3)], constants=(1,))


def test_special_floats() -> None:
    check(list(special_nodes()))


def test_ends_of_integers() -> None:
    check(list(integer_nodes(np.int64)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int8, np.int16, np.uint32, np.uint64],
                         ids=lambda d: d.__name__)  # fmt: skip
def test_ends_of_other_integers(dtype: Any) -> None:
    check(list(integer_nodes(dtype)))


@pytest.mark.parametrize("op", ["Div", "Mod"])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8], ids=lambda d: d.__name__)
def test_dividing_by_zero_gives_zero(op: str, dtype: Any) -> None:
    """What C and ONNX leave open; the smallest number over -1 wraps."""
    least = np.iinfo(dtype).min
    a, b = np.array([5, 0, least], dtype), np.array([0, 0, 0 if least == 0 else -1], dtype)
    node = OddNode("n", op, [a, b])
    expected = [0, 0, 0 if least == 0 or op == "Mod" else least]
    for device in ("OPENCL", "CPU"):
        assert run([node], device)["n"][0].tolist() == expected, device


def test_a_mean_of_integers_does_not_overflow() -> None:
    for dtype in (np.int32, np.uint32, np.uint8):
        most = np.iinfo(dtype).max
        x = np.array([[most, most, most - 3, most], [7, 2, 3, 2]], dtype)
        node = OddNode("n", "ReduceMean", [x, whole(1)], {"keepdims": 0}, (1,))
        for device in ("OPENCL", "CPU"):
            assert run([node], device)["n"][0].tolist() == [most - 1, 3], device


def test_nothing() -> None:
    check(list(empty_nodes()))


def test_scalars() -> None:
    check(list(scalar_nodes()))


def test_rank_8() -> None:
    check(list(rank_8_nodes()))


@pytest.mark.parametrize("device", ["OPENCL", "CPU"])
@pytest.mark.parametrize("x", [empty(), empty(0, 3)], ids=["scalar", "empty-axis"])
def test_no_axis_to_search(x: np.ndarray, device: str) -> None:
    with pytest.raises(ModelError, match="axis"):
        run([OddNode("n", "ArgMax", [x], {"axis": 0})], device)
