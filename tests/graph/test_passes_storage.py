"""The passes that choose how weights and values are stored, on the NumPy references."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from small_models import CPU, compute, model, normal, onnx_runtime, rng

from rekindle._types import DType, Target
from rekindle.graph import passes
from rekindle.graph.infer import bind
from rekindle.graph.ir import Graph
from rekindle.graph.onnx_io import load_bytes
from rekindle.graph.passes._rounding import balanced, narrowed
from rekindle.runtime.fidelity import fidelity

Array = np.ndarray[Any, np.dtype[Any]]


GPU = replace(CPU, name="card", family="gcn")


def stored(
    proto: onnx.ModelProto, feeds: Mapping[str, Array], precision: str, target: Target = CPU
) -> Graph:
    """The model after all passes for a precision, each verified."""
    graph = load_bytes(proto.SerializeToString())
    graph = passes.run(graph, passes.portable(precision), check=True)
    bound = bind(graph, {n: a.shape for n, a in feeds.items()})
    return passes.run(bound, passes.device(precision), target, check=True)


NETWORK = (
    "(float[N,8,9,9] x) => (float[N,10] y) {"
    "  c = Conv<pads=[1,1,1,1]>(x, w1, b1)  r = Relu(c)  d = Conv<group=40,pads=[1,1,1,1]>(r, w2)"
    "  s = Sigmoid(d)  m = Mul(d, s)  p = MaxPool<kernel_shape=[3,3]>(m)  e = Conv(p, w3)"
    "  a = Add(e, p)  g = GlobalAveragePool(a)  f = Flatten(g)  l = LayerNormalization(f, ls, lb)"
    "  z = Gemm<transB=1>(l, w4, b4)  y = Softmax(z)"
    "}"
)
WEIGHTS = {
    "w1": normal(40, 8, 3, 3) / 8, "b1": normal(40, seed=1), "w2": normal(40, 1, 3, 3, seed=2) / 3,
    "w3": normal(40, 40, 1, 1, seed=3) / 6, "ls": normal(40, seed=4), "lb": normal(40, seed=5),
    "w4": normal(40, 40, seed=6)[:10] * np.float32(0.3), "b4": normal(10, seed=7),
}  # fmt: skip
X = {"x": normal(2, 8, 9, 9, seed=8)}


@pytest.mark.parametrize(
    ("precision", "least_db"),
    [("fp32", 100), ("model", 100), ("fp16", 60), ("bf16w", 45), ("int8w", 40), ("int4w", 40)],
)
def test_a_network_keeps_its_answers(precision: str, least_db: float) -> None:
    proto = model(NETWORK, **WEIGHTS)
    graph = stored(proto, X, precision)
    found, expected = compute(graph, X)["y"], onnx_runtime(proto, X)["y"]
    assert found.dtype == np.float32
    assert fidelity(found, expected).snr_db >= least_db


def types(graph: Graph) -> dict[str, str]:
    """Operator → dtypes it reads and, behind the arrow, makes."""
    return {
        node.qualified: ",".join(str(graph.values[n].dtype) for n in node.inputs if n)
        + ">" + ",".join(str(graph.values[n].dtype) for n in node.outputs if n)
        for node in graph.nodes
    }  # fmt: skip


@pytest.mark.parametrize(("target", "left"), [(CPU, DType.FLOAT16), (GPU, DType.FLOAT32)])
def test_what_weights_multiply_in_scalar_registers_is_float32(target: Target, left: DType) -> None:
    """A value that a product alone reads is stored so; of others there is a copy."""
    text = (
        "(float[5,40] x) => (float[5,40] y) {"
        "  a = Relu(x)  b = MatMul(a, v)  c = MatMul(b, w)  d = Add(b, c)  y = Sigmoid(d)"
        "}"
    )
    proto = model(text, v=normal(40, 40), w=normal(40, 40, seed=1))
    feeds = {"x": normal(5, 40, seed=2)}
    graph = stored(proto, feeds, "fp16", target)
    products = [node for node in graph.nodes if node.op_type == "MatMul"]
    assert [graph.values[p.inputs[0]].dtype for p in products] == [left, left]
    assert graph.values[products[0].outputs[0]].dtype is DType.FLOAT16
    found, expected = compute(graph, feeds)["y"], onnx_runtime(proto, feeds)["y"]
    assert fidelity(found, expected).snr_db >= 55


def test_what_is_half_and_what_stays_float32() -> None:
    """Ends, biases and normalisation parameters stay; what lies between does not."""
    found = types(stored(model(NETWORK, **WEIGHTS), X, "fp16"))
    assert found["LayerNormalization"] == "float16,float32,float32>float16"
    assert found["MaxPool"] == "float16>float16"
    assert found["rekindle::MatMul"].endswith(">float32") or found["Softmax"] == "float32>float32"
    assert found["Softmax"] == "float32>float32"
    graph = stored(model(NETWORK, **WEIGHTS), X, "fp16")
    first = next(n for n in graph.nodes if n.op_type == "Conv")
    kinds = [graph.values[n].dtype for n in (*first.inputs, *first.outputs)]
    assert kinds == [DType.FLOAT32, DType.FLOAT16, DType.FLOAT32, DType.FLOAT16]


def test_weights_of_each_precision() -> None:
    """Depthwise filters stay float32: kernels would widen them, and nothing be saved."""
    wanted = {"fp16": "float16", "bf16w": "bfloat16", "int8w": "int8", "int4w": "int8"}
    for precision, dtype in wanted.items():
        graph = stored(model(NETWORK, **WEIGHTS), X, precision)
        convs = [n for n in graph.nodes if n.op_type == "Conv"]
        kinds = [str(graph.values[n.inputs[1]].dtype) for n in convs]
        assert kinds == [dtype, "float32", dtype], precision


def test_products_get_four_bits_in_groups() -> None:
    w = normal(70, 20)
    proto = model("(float[3,70] x) => (float[3,20] y) { y = MatMul(x, w) }", w=w)
    feeds = {"x": normal(3, 70, seed=1)}
    graph = stored(proto, feeds, "int4w")
    (node,) = graph.nodes
    integers, decode = graph.initializers[node.inputs[1]], node.attrs["decode"]
    assert (integers.min(), integers.max()) >= (-8, -8)
    assert integers.max() <= 7
    assert decode.scale.shape == (3, 20)
    assert decode.group == 32
    assert fidelity(decode(integers), w).snr_db >= 18  # 4 bits of a normal distribution
    assert fidelity(compute(graph, feeds)["y"], onnx_runtime(proto, feeds)["y"]).snr_db >= 17


def test_integers_that_weights_once_were_are_found_again() -> None:
    """Of a model that was quantised before: eight bits lose nothing where they suffice."""
    q = rng(3).integers(-127, 128, (32, 40)).astype(np.int8)
    w = q.astype(np.float32) * np.float32(0.0173)
    proto = model("(float[3,32] x) => (float[3,40] y) { y = MatMul(x, w) }", w=w)
    graph = stored(proto, {"x": normal(3, 32)}, "int8w")
    (node,) = graph.nodes
    np.testing.assert_array_equal(graph.initializers[node.inputs[1]], q)
    np.testing.assert_allclose(node.attrs["decode"].scale, 0.0173, rtol=1e-5)


def test_a_weight_too_large_for_half_stays_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    w = normal(40, 40)
    w[3, 5] = 70000.0
    proto = model("(float[3,40] x) => (float[3,40] y) { y = MatMul(x, huge) }", huge=w)
    with caplog.at_level(logging.WARNING, "rekindle"):
        graph = stored(proto, {"x": normal(3, 40)}, "fp16")
    (node,) = graph.nodes
    assert graph.values[node.inputs[1]].dtype is DType.FLOAT32
    assert "huge is too large for float16 and stays float32" in caplog.text


def test_what_may_overflow_stays_float32() -> None:
    """The square of 300 is no half; nor is a sum of many, nor what a mask adds."""
    body = (
        "(float[2,40] x) => (float[2,40] y) { a = MatMul(x, w)  s = Mul(a, a)"
        "  t = ReduceSum<keepdims=1>(s, axes)  r = Sqrt(t)  y = Div(a, r) }"
    )
    proto = model(body, w=normal(40, 40) * np.float32(60), axes=np.array([1], np.int64))
    feeds = {"x": normal(2, 40, seed=1)}
    found = compute(stored(proto, feeds, "fp16"), feeds)["y"]
    assert fidelity(found, onnx_runtime(proto, feeds)["y"]).snr_db >= 60
    masked = model(
        "(float[2,40] x, bool[2,40] m) => (float[2,40] y) { a = MatMul(x, w)"
        "  n = Where(m, zero, low)  b = Add(a, n)  y = Softmax(b) }",
        w=normal(40, 40) / 6, zero=np.float32(0), low=np.float32(-3.4e38),
    )  # fmt: skip
    mask = np.ones((2, 40), bool)
    mask[0], mask[1, 3:] = False, False
    given = {**feeds, "m": mask}
    wanted = onnx_runtime(masked, given)["y"]
    assert fidelity(compute(stored(masked, given, "fp16"), given)["y"], wanted).snr_db >= 60


def test_what_a_subgraph_reads_stays_float32() -> None:
    body = (
        "(float[3,40] x, bool c) => (float[3,40] y) { a = MatMul(x, w)  b = Relu(a)  z = If(c) <"
        " then_branch = t () => (float[3,40] p) { p = Exp(b) },"
        " else_branch = e () => (float[3,40] q) { q = Neg(b) }>  y = MatMul(z, w) }"
    )
    proto = model(body, w=normal(40, 40) / 6)
    feeds = {"x": normal(3, 40, seed=1), "c": np.array(True)}
    graph = stored(proto, feeds, "fp16")
    (branch,) = (n for n in graph.nodes if n.op_type == "If")
    assert [str(graph.values[n].dtype) for n in branch.inputs] == ["bool", "float32"]
    snr = fidelity(compute(graph, feeds)["y"], onnx_runtime(proto, feeds)["y"]).snr_db
    assert snr >= 55


def decoding(axis: int, w: Array, scale: Array, zero: Array | None, **attrs: int) -> Any:
    names = ["q", "s", "z"][: 2 + (zero is not None)]
    return helper.make_node("DequantizeLinear", names, ["w"], axis=axis, **attrs)


@pytest.mark.parametrize("zero", [None, 0, 128, 90], ids=str)
@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
def test_the_models_own_integers_stay(zero: int | None, transposed: bool) -> None:
    """uint8 with a zero point of 128 is int8; with one of 90 it needs nine bits and is decoded."""
    shape = (20, 40) if transposed else (40, 20)
    low, kind = (-128, np.int8) if zero in (None, 0) else (0, np.uint8)
    q = rng(1).integers(low, low + 256, shape).astype(kind)
    scale = rng(2).uniform(0.01, 0.02, 20).astype(np.float32)
    points = None if zero is None else np.full(20, zero, kind)
    names = ["q", "s"] + (["z"] if zero is not None else [])
    nodes = [helper.make_node("DequantizeLinear", names, ["w"], axis=0 if transposed else 1)]
    if transposed:
        nodes.append(helper.make_node("Transpose", ["w"], ["v"], perm=[1, 0]))
    nodes.append(helper.make_node("MatMul", ["x", "v" if transposed else "w"], ["y"]))
    weights = {"q": q, "s": scale} | ({"z": points} if points is not None else {})
    proto = _model(nodes, (3, 40), (3, 20), weights)
    feeds = {"x": normal(3, 40)}
    graph = stored(proto, feeds, "model")
    (node,) = graph.nodes
    kept = graph.values[node.inputs[1]].dtype
    assert kept is (DType.FLOAT32 if zero == 90 else DType.INT8)
    expected = onnx_runtime(proto, feeds)["y"]
    np.testing.assert_allclose(compute(graph, feeds)["y"], expected, rtol=1e-4, atol=1e-4)
    plain = stored(proto, feeds, "fp32")
    assert all(plain.values[n.inputs[1]].dtype is DType.FLOAT32 for n in plain.nodes)


def _model(
    nodes: list[Any], x: tuple[int, ...], y: tuple[int, ...], weights: dict[str, Array | Any]
) -> onnx.ModelProto:
    tensors = [
        numpy_helper.from_array(a, n) if isinstance(a, np.ndarray) else a
        for n, a in weights.items()
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)], tensors,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, ir_version=10, opset_imports=opsets)


@pytest.mark.parametrize("zero", [False, True], ids=["symmetric", "zero points"])
@pytest.mark.parametrize("signed", [True, False], ids=["int4", "uint4"])
def test_blocked_four_bit_weights(signed: bool, zero: bool) -> None:
    """ONNX's own form, packed two in a byte, an odd number of them; against ONNX Runtime."""
    low, kind = (-8, TensorProto.INT4) if signed else (0, TensorProto.UINT4)
    q = rng(4).integers(low, low + 16, (48, 21))
    scale = rng(5).uniform(0.01, 0.1, (3, 21)).astype(np.float32)
    weights: dict[str, Any] = {
        "q": helper.make_tensor("q", kind, (48, 21), q.reshape(-1)),
        "s": scale,
    }
    if zero:
        points = rng(6).integers(low, low + 16, (3, 21)).reshape(-1)
        weights["z"] = helper.make_tensor("z", kind, (3, 21), points)
    nodes = [
        helper.make_node("DequantizeLinear", list(weights), ["w"], axis=0, block_size=16),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    proto = _model(nodes, (3, 48), (3, 21), weights)
    feeds = {"x": normal(3, 48)}
    for precision in ("model", "fp16"):
        graph = stored(proto, feeds, precision)
        (node,) = graph.nodes
        assert graph.values[node.inputs[1]].dtype is DType.INT8
        expected = onnx_runtime(proto, feeds)["y"]
        np.testing.assert_allclose(compute(graph, feeds)["y"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero", [False, True], ids=["symmetric", "zero points"])
def test_matmul_nbits_is_a_product_of_integers(bits: int, zero: bool) -> None:
    count, depth, size = 21, 70, 32
    groups = -(-depth // size)
    b = rng(7).integers(0, 256, (count, groups, size * bits // 8)).astype(np.uint8)
    weights = {"b": b, "s": rng(8).uniform(0.01, 0.1, count * groups).astype(np.float32)}
    if zero:
        # Near the middle: so that eight bits, less their zero point, are still eight.
        middle = (1 << bits) // 2
        weights["z"] = np.full(
            count * -(-groups * bits // 8), middle * 17 if bits == 4 else middle, np.uint8
        )
    node = helper.make_node(
        "MatMulNBits", ["x", *weights], ["y"], domain="com.microsoft", K=depth, N=count,
        bits=bits, block_size=size,
    )  # fmt: skip
    proto = _model([node], (3, depth), (3, count), weights)
    feeds = {"x": normal(3, depth)}
    graph = stored(proto, feeds, "model")
    (made,) = graph.nodes
    assert made.qualified == "rekindle::MatMul"
    assert graph.values[made.inputs[1]].dtype is DType.INT8
    expected = onnx_runtime(proto, feeds)["y"]
    np.testing.assert_allclose(compute(graph, feeds)["y"], expected, rtol=2e-3, atol=2e-3)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["float16", "bfloat16"]), st.integers(8, 60))
def test_rounding_errors_of_an_output_add_up_to_nothing(seed: int, kind: str, count: int) -> None:
    """Every weight becomes one of its two neighbours, and the sum of errors shrinks or stays."""
    w = np.random.default_rng(seed).standard_normal((3, count)).astype(np.float32)
    dtype = DType.FLOAT16 if kind == "float16" else DType.BFLOAT16
    numpy = np.float16 if kind == "float16" else ml_dtypes.bfloat16
    found, near = (a.astype(np.float64) for a in (narrowed(w, dtype, 0), w.astype(numpy)))
    spacing = (
        np.abs(np.spacing(w.astype(numpy)).astype(np.float64))
        if kind == "float16"
        else np.abs(w) / 64
    )
    assert (np.abs(found - w) <= spacing).all()
    sums = [np.abs((a - w.astype(np.float64)).sum(1)) for a in (found, near)]
    assert (sums[0] <= sums[1] + 1e-6).all()


def test_balanced_leaves_short_rows_and_exact_weights_alone() -> None:
    w = normal(2, 7)
    assert not balanced(w, np.rint(w), np.rint(w) + 1).any()
    whole = np.rint(normal(2, 40) * 9).astype(np.float32)
    assert not balanced(whole, whole, whole + 1).any()
