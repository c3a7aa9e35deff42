"""The operators that passes write, against plain NumPy; the interpreter; costs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from lowering_oracle import run_calls, run_node
from small_models import graph_of, normal, onnx_runtime
from small_models import model as parsed

from rekindle._errors import InputError, ModelError, UnsupportedOperatorError
from rekindle._types import DType, Layout
from rekindle.graph import ops, reference
from rekindle.graph.cost import NodeCost, node_costs, parameter_count
from rekindle.graph.expr import Arg, Cast, Expr, call, maximum, sigmoid
from rekindle.graph.infer import bind
from rekindle.graph.ir import Array, Graph, Node, Value, dtype_of
from rekindle.graph.lowering import Lowering, NotLowered


def own(op_type: str, attrs: dict[str, object], *arrays: Array | None) -> tuple[Graph, Array]:
    """A graph of one rekindle node on the arrays, typed, and its reference's output."""
    names = tuple("" if a is None else f"x{i}" for i, a in enumerate(arrays))
    given = {n: a for n, a in zip(names, arrays, strict=True) if a is not None}
    node = Node(op_type, names, ("y",), attrs, domain="rekindle")
    values = {n: Value(n, dtype_of(a), a.shape) for n, a in given.items()}
    opsets = {"": 17, "rekindle": 1}
    graph = bind(Graph("own", tuple(given), ("y",), [node], values, {}, opsets), {})
    result = reference.run(graph, given)["y"]
    lowered = run_node(graph, node, given)["y"]
    np.testing.assert_allclose(lowered, result, rtol=1e-5, atol=1e-5)
    assert lowered.dtype == result.dtype
    return graph, result


X, W, B = normal(2, 4, 7, 6), normal(6, 2, 3, 3, seed=1), normal(6, seed=2)
CONV = {"pads": (1, 1, 1, 1), "strides": (1, 1), "group": 2}


def plain_conv(bias: bool) -> Array:
    text = "(float[2,4,7,6] x) => (float[N,M,H,W] y) { y = Conv<pads=[1,1,1,1], group=2>(x, w%s) }"
    weights = {"w": W, "b": B} if bias else {"w": W}
    return onnx_runtime(parsed(text % (", b" if bias else ""), **weights), {"x": X})["y"]


@pytest.mark.parametrize("bias", [True, False])
def test_fused_conv_applies_its_epilogue(bias: bool) -> None:
    residual = normal(2, 6, 7, 6, seed=3)
    attrs = {**CONV, "epilogue": maximum(Arg(0) + Arg(1), 0.0)}
    graph, y = own("Conv", attrs, X, W, B if bias else None, residual)
    np.testing.assert_allclose(y, np.maximum(plain_conv(bias) + residual, 0), rtol=1e-4, atol=1e-5)
    (cost,) = node_costs(graph)
    assert cost.flops == 2 * 2 * 9 * y.size + 2 * y.size


def test_fused_conv_without_an_epilogue_is_conv() -> None:
    _, y = own("Conv", {**CONV, "epilogue": None}, X, W, B)
    np.testing.assert_allclose(y, plain_conv(True), rtol=1e-4, atol=1e-5)


def test_fused_conv_takes_a_single_element() -> None:
    scale = np.array([3.0], np.float32)
    _, y = own("Conv", {**CONV, "epilogue": Arg(0) * Arg(1)}, X, W, None, scale)
    np.testing.assert_allclose(y, plain_conv(False) * 3, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_fused_matmul_transposes_and_broadcasts(transpose_a: bool, transpose_b: bool) -> None:
    a, b = normal(3, 5, 4), normal(4, 7, seed=1)
    bias, gate = normal(7, seed=2), normal(5, 1, seed=3)
    attrs = {
        "transpose_a": int(transpose_a),
        "transpose_b": int(transpose_b),
        "epilogue": (Arg(0) + Arg(1)) * sigmoid(Arg(2)),
    }
    given = a.swapaxes(1, 2) if transpose_a else a, b.T if transpose_b else b
    graph, y = own("MatMul", attrs, *map(np.ascontiguousarray, given), bias, gate)
    np.testing.assert_allclose(y, (a @ b + bias) / (1 + np.exp(-gate)), rtol=1e-4, atol=1e-5)
    (cost,) = node_costs(graph)
    assert cost.flops == 2 * 4 * y.size + 6 * y.size


def test_fused_elementwise_has_the_dtype_it_says() -> None:
    x, y = normal(3, 4), normal(4, seed=1)
    _, less = own("Elementwise", {"expr": Arg(0) < Arg(1), "dtype": DType.BOOL}, x, y)
    assert np.array_equal(less, x < y)
    whole = Cast(DType.INT32, Arg(0) * 10.0)
    _, truncated = own("Elementwise", {"expr": whole, "dtype": DType.INT32}, x)
    assert np.array_equal(truncated, (x * 10).astype(np.int32))


def test_fused_elementwise_may_leave_an_input_out() -> None:
    x, y = normal(3, 4), normal(4, seed=1)
    _, got = own("Elementwise", {"expr": Arg(1) * 2.0 + Arg(1), "dtype": DType.FLOAT32}, x[0], y)
    np.testing.assert_allclose(got, y * 3, rtol=1e-6)


def test_fused_elementwise_without_an_expression_is_refused() -> None:
    with pytest.raises(ModelError, match="attribute expr is None"):
        own("Elementwise", {"dtype": DType.FLOAT32}, normal(3))


def test_reorder_keeps_the_values_and_lowers_to_the_call_of_its_name() -> None:
    graph, y = own("Reorder", {}, X)
    assert np.array_equal(y, X)
    graph.values["y"] = dataclasses.replace(graph.values["y"], layout=Layout(16))
    lowering = Lowering(graph, graph.nodes[0])
    operator = ops.find("rekindle::Reorder", 1)
    assert operator is not None
    ops.lower(operator, lowering)
    (only,) = lowering.calls
    assert (only.name, only.output.layout) == ("reorder", Layout(16))


def test_integer_products_stay_on_the_host() -> None:
    graph = graph_of("(int32[2,3] a, int32[3,2] b) => (int32[2,2] y) { y = MatMul(a, b) }")
    operator = ops.find("MatMul", 17)
    assert operator is not None
    with pytest.raises(NotLowered, match="int32"):
        ops.lower(operator, Lowering(graph, graph.nodes[0]))


def test_a_lowering_copies_no_axis_of_one_element() -> None:
    """Copies arrive with merged axes: a channel shuffle of (1,2,3,4) is one of three axes."""
    graph = graph_of(
        "(float[1,2,3,4,5] x) => (float[1,3,2,4,5] y) { y = Transpose<perm=[0,2,1,3,4]>(x) }"
    )
    operator = ops.find("Transpose", 17)
    assert operator is not None
    lowering = Lowering(graph, graph.nodes[0])
    ops.lower(operator, lowering)
    (only,) = lowering.calls
    assert (only.params["shape"], only.params["in_strides"]) == ((3, 2, 20), (20, 60, 1))
    x = normal(1, 2, 3, 4, 5)
    assert np.array_equal(run_calls([only], {"x": x})["y"], x.transpose(0, 2, 1, 3, 4))


# --- the interpreter ---------------------------------------------------------------------------

TWO = "(float[N,3] x, float[3] s) => (float[N,3] y, float[N,3] z) { y = Mul(x, s) z = Relu(y) }"


def test_the_interpreter_gives_every_output_in_order() -> None:
    x, s = normal(4, 3), normal(3, seed=1)
    got = reference.run(graph_of(TWO), {"x": x, "s": s})
    assert list(got) == ["y", "z"]
    np.testing.assert_allclose(got["z"], np.maximum(x * s, 0))


def test_outputs_do_not_share_memory_with_inputs() -> None:
    x = normal(4, 3)
    graph = graph_of("(float[4,3] x) => (float[4,3] y) { y = Identity(x) }")
    assert not np.shares_memory(reference.run(graph, {"x": x})["y"], x)


def test_wrong_feeds_are_refused() -> None:
    graph, x, s = graph_of(TWO), normal(4, 3), normal(3)
    with pytest.raises(InputError, match=r"\['x'\].*\['s', 'x'\]"):
        reference.run(graph, {"x": x})
    with pytest.raises(InputError, match="'s' is float64, expected float32"):
        reference.run(graph, {"x": x, "s": s.astype(np.float64)})
    with pytest.raises(ModelError, match="node Mul"):
        reference.run(graph, {"x": x, "s": normal(5)})


def test_unknown_operators_are_named() -> None:
    graph = graph_of(TWO)
    graph.nodes[1] = dataclasses.replace(graph.nodes[1], op_type="Levitate")
    with pytest.raises(UnsupportedOperatorError, match="Levitate"):
        reference.run(graph, {"x": normal(4, 3), "s": normal(3)})


def test_half_precision_is_rounded_once() -> None:
    """A sum of halves is made in float64: 4096 times 0.1 in float16 would stop growing at 256."""
    graph = graph_of("(float16[4096] x, int64[1] a) => (float16[1] y) { y = ReduceSum(x, a) }")
    x = np.full(4096, 0.1, np.float16)
    got = reference.run(graph, {"x": x, "a": np.zeros(1, np.int64)})["y"]
    assert got == np.float16(4096 * float(np.float16(0.1)))


NORMALIZATIONS = {
    "LayerNormalization<axis=1>(x, s, b)": (8, 6, 5),
    "InstanceNormalization(x, s, b)": (8,),
    "GroupNormalization<num_groups=2>(x, s, b)": (8,),
}


@pytest.mark.parametrize("dtype", ["float16", "double"])
@pytest.mark.parametrize("formula", NORMALIZATIONS)
def test_normalizations_of_other_precisions(formula: str, dtype: str) -> None:
    """Half precision is computed in float32, double in double."""
    numpy = np.dtype(dtype).name
    shape = NORMALIZATIONS[formula]
    weights = {n: normal(*shape, seed=i, dtype=numpy) for i, n in enumerate("sb", 1)}
    text = f"({dtype}[2,8,6,5] x) => ({dtype}[2,8,6,5] y) {{ y = {formula} }}"
    graph = graph_of(text, opset=21, **weights)
    x = (normal(2, 8, 6, 5) * 10 + 40).astype(numpy)
    expected = reference.run(graph, {"x": x})["y"]
    lowered = run_node(graph, graph.nodes[0], {"x": x})["y"]
    assert lowered.dtype == expected.dtype == np.dtype(numpy)
    close = 1e-3 if numpy == "float16" else 1e-12
    np.testing.assert_allclose(lowered, expected, rtol=close, atol=close)


# --- expressions that a plain table of functions gets wrong -------------------------------------


@pytest.mark.parametrize(
    ("operator", "opset"),
    [("Softplus", 17), ("Sigmoid", 17), ("Mish", 18), ("Elu", 17), ("Relu", 17), ("Selu", 17)],
)
def test_extreme_inputs_keep_nan_and_overflow_nowhere(operator: str, opset: int) -> None:
    x = np.array([-1e30, -100, -0.0, 100, 1e30, np.nan, np.inf], np.float32)
    graph = graph_of(f"(float[7] x) => (float[7] y) {{ y = {operator}(x) }}", opset=opset)
    lowered = run_node(graph, graph.nodes[0], {"x": x})["y"]
    expected = reference.run(graph, {"x": x})["y"]
    np.testing.assert_allclose(lowered, expected, rtol=1e-6, atol=1e-30)
    assert np.isnan(lowered[5])
    assert np.isfinite(lowered[:5]).all()


# --- costs -------------------------------------------------------------------------------------


def test_costs_of_a_small_network() -> None:
    graph = graph_of(
        """(float[1,3,8,8] x) => (float[1,10] y) {
            c = Conv<pads=[1,1,1,1]>(x, w, b)  r = Relu(c)  p = GlobalAveragePool(r)
            f = Flatten(p)  y = Gemm<transB=1>(f, v)
        }""",
        w=normal(4, 3, 3, 3),
        b=normal(4),
        v=normal(10, 4),
    )
    conv, relu, pool, flatten, gemm = node_costs(graph)
    assert conv.flops == 2 * 27 * 4 * 64
    assert conv.bytes_read == 4 * (3 * 64 + 4 * 27 + 4)
    assert conv.bytes_written == 4 * 4 * 64
    assert relu.flops == pool.flops == 256
    assert flatten == NodeCost(flatten.node, 0, 0, 0)
    assert gemm.flops == 2 * 4 * 10
    assert parameter_count(graph) == 4 * 27 + 4 + 40


def test_gather_reads_only_the_rows_it_takes() -> None:
    graph = graph_of(
        "(int64[2] i) => (float[2,8] y) { y = Gather(table, i) }", table=normal(1000, 8)
    )
    (cost,) = node_costs(graph)
    assert (cost.bytes_read, cost.bytes_written) == (2 * 8 * 4 + 2 * 8, 2 * 8 * 4)


def test_every_float_operator_says_what_it_costs() -> None:
    """An expression's size counts; without arithmetic, operators with a lowering move data."""
    moves = {
        "CastLike", "Concat", "ConstantOfShape", "DepthToSpace", "Dropout", "Expand", "Flatten",
        "Gather", "GatherElements", "GatherND", "OneHot", "OptionalGetElement", "Pad", "Reshape",
        "Resize", "Scatter", "ScatterElements", "ScatterND", "Slice", "SpaceToDepth", "Split",
        "Squeeze", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Upsample",
        "com.microsoft::Trilu", "rekindle::Reorder",
    }  # fmt: skip
    silent = {
        name
        for name in ops.REGISTRY.names()
        if any(v.lower and not v.flops and not v.expr for v in ops.REGISTRY.get(name))
    }
    assert silent == moves


def test_power_has_the_dtype_of_its_base() -> None:
    power: Expr = call("pow", Arg(0), Arg(1))
    _, y = own("Elementwise", {"expr": power, "dtype": DType.INT32}, np.arange(4, dtype=np.int32),
               np.array([2.0], np.float32))  # fmt: skip
    assert y.tolist() == [0, 1, 4, 9]


def test_einsum_counts_a_product_and_a_sum_for_all_letters() -> None:
    text = (
        '(float[3,4] a, float[4,5] b) => (float[3,5] y){ y = Einsum<equation="ij,jk->ik">(a, b) }'
    )
    (cost,) = node_costs(graph_of(text))
    assert cost.flops == 2 * 3 * 4 * 5
