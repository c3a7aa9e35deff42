"""Elementwise and epilogue fusion, transposes, pools: same results, one node for each idea."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import agree, compute, counts, graph_of, model, normal, optimized

from rekindle._types import DType
from rekindle.graph.expr import Call, Const, Expr, size
from rekindle.graph.passes import run
from rekindle.graph.passes._fuse import MAX_SIZE
from rekindle.graph.passes.epilogue_fusion import MAX_OPERANDS

X = {"x": normal(2, 3, 4, 5)}
SCALARS = {
    "half": np.array(0.5, "float32"),
    "one": np.array([1.0], "float32"),
    "three": np.array(3, "float32"),
    "six": np.array([[6]], "float32"),
    "zero": np.array(0, "float32"),
    "root": np.array(2**0.5, "float32"),
}
ACTIVATIONS = {
    "silu": "s = Sigmoid(x)  y = Mul(x, s)",
    "mish": "s = Softplus(x)  t = Tanh(s)  y = Mul(x, t)",
    "gelu": "d = Div(x, root)  e = Erf(d)  a = Add(e, one)  m = Mul(x, a)  y = Mul(m, half)",
    "hard swish": "a = Add(x, three)  c = Clip(a, zero, six0)  d = Div(c, six)  y = Mul(x, d)",
    "diamond": "e = Exp(x)  a = Add(e, one)  d = Div(e, a)  y = Sub(d, e)",
    "where": "b = Less(x, half)  n = Neg(x)  y = Where(b, n, x)",
    "select constants": "b = Less(x, half)  k = Where(b, one, half)  y = Mul(k, x)",
    "not": "b = Less(x, half)  n = Not(b)  c = Cast<to=1>(n)  y = Mul(c, x)",
    "power": "p = Pow(x, two)  y = Add(p, x)",
}


@pytest.mark.parametrize("body", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
def test_an_activation_becomes_one_node(body: str) -> None:
    proto = model(
        f"(float[2,3,4,5] x) => (float[a,b,c1,d1] y) {{ {body} }}",
        six0=np.array(6, "float32"), two=np.array(2), **SCALARS,
    )  # fmt: skip
    graph = agree(proto, X, ["elementwise_fusion"])
    assert counts(graph) == {"rekindle::Elementwise": 1}
    assert graph.nodes[0].attrs["dtype"] is DType.FLOAT32


def test_scalar_constants_are_written_into_the_expression() -> None:
    proto = model(
        f"(float[2,3,4,5] x) => (float[a,b,c1,d1] y) {{ {ACTIVATIONS['gelu']} }}", **SCALARS
    )
    graph = optimized(proto, X, ["elementwise_fusion"])
    assert graph.nodes[0].inputs == ("x",)
    assert not graph.initializers


def test_a_constant_that_gives_the_result_its_rank_or_dtype_stays_an_input() -> None:
    proto = model(
        "(float[5] x, bool[5] b) => (float[1,5] y, int32[5] z)"
        "{ a = Add(x, six)  y = Relu(a)  w = Where(b, four, five)  z = Neg(w) }",
        six=np.array([[6]], "float32"), four=np.array(4, "int32"), five=np.array(5, "int32"),
    )  # fmt: skip
    feeds = {"x": normal(5), "b": np.array([True, False, True, True, False])}
    graph = agree(proto, feeds, ["elementwise_fusion"])
    assert counts(graph) == {"rekindle::Elementwise": 2}
    assert [n.inputs for n in graph.nodes] == [("x", "six"), ("b", "four", "five")]


def test_nan_survives_fusion() -> None:
    x = normal(2, 3, 4, 5)
    x[0, 0, 0, :3] = np.nan, np.inf, -np.inf
    body = "r = Relu(x)  c = Clip(r, zero, three)  l = LeakyRelu(c)  y = Add(l, x)"
    proto = model(f"(float[2,3,4,5] x) => (float[a,b,c1,d1] y) {{ {body} }}", **SCALARS)
    graph = agree(proto, {"x": x}, ["elementwise_fusion"])
    assert counts(graph) == {"rekindle::Elementwise": 1}


def test_what_others_read_is_not_swallowed() -> None:
    proto = model(
        "(float[2,3,4,5] x) => (float[2,3,4,5] e, float[2,3,1,1] m, float[2,3,4,5] y)"
        "{ e = Exp(x)  s = Sigmoid(e)  m = GlobalAveragePool(s)  y = Mul(s, e) }"
    )
    graph = agree(proto, X, ["elementwise_fusion"])
    assert counts(graph) == {"Exp": 1, "Sigmoid": 1, "GlobalAveragePool": 1, "Mul": 1}


def test_a_smaller_operand_is_computed_once_not_for_every_element() -> None:
    proto = model(
        "(float[2,3,4,5] x, float[3,1,1] g) => (float[2,3,4,5] y)"
        "{ s = Sigmoid(g)  m = Mul(x, s)  y = Relu(m) }"
    )
    graph = agree(proto, {**X, "g": normal(3, 1, 1)}, ["elementwise_fusion"])
    assert counts(graph) == {"Sigmoid": 1, "rekindle::Elementwise": 1}


def test_fusion_stays_within_its_bounds() -> None:
    chain = "  ".join(f"t{i + 1} = Mish(t{i})" for i in range(40))
    proto = model(f"(float[7] t0) => (float[7] y) {{ {chain}  y = Neg(t40) }}", opset=18)
    graph = optimized(proto, {"t0": normal(7)}, ["elementwise_fusion"])
    assert 1 < len(graph.nodes) < 41
    assert all(size(n.attrs["expr"]) <= MAX_SIZE for n in graph.nodes if n.domain)
    inputs = ", ".join(f"float[3] x{i}" for i in range(20))
    total = "  ".join(f"s{i} = Add({f's{i - 1}' if i > 1 else 'x0'}, x{i})" for i in range(1, 20))
    proto = model(f"({inputs}) => (float[3] y) {{ {total}  y = Relu(s19) }}")
    graph = agree(proto, {f"x{i}": normal(3, seed=i) for i in range(20)}, ["elementwise_fusion"])
    assert 1 < len(graph.nodes) < 20
    assert all(len(n.inputs) <= 8 for n in graph.nodes)


def test_mixed_dtypes_keep_their_rounding() -> None:
    proto = model(
        "(int32[6] x, float[6] p) => (float[6] y) { i = Pow(x, p)  f = Cast<to=1>(i)  y = Neg(f) }"
    )  # the power of integers is truncated before the cast
    x, p = np.arange(1, 7, dtype="int32"), np.full(6, 0.5, "float32")
    graph = agree(proto, {"x": x, "p": p}, ["elementwise_fusion"])
    assert counts(graph) == {"Pow": 1, "rekindle::Elementwise": 1}


def test_integers_and_comparisons_fuse() -> None:
    proto = model(
        "(int64[6] x) => (bool[6] y) { m = Mul(x, two)  a = Add(m, x)  g = Greater(a, seven)"
        "  e = Equal(a, two)  y = Or(g, e) }",
        two=np.array([2]), seven=np.array(7),
    )  # fmt: skip
    graph = agree(proto, {"x": np.arange(6)}, ["elementwise_fusion"])
    assert counts(graph) == {"rekindle::Elementwise": 1}
    assert graph.nodes[0].attrs["dtype"] is DType.BOOL


IMAGE = {"x": normal(2, 6, 8, 8)}
WEIGHTS = {"w": normal(6, 6, 3, 3), "w2": normal(6, 6, 1, 1, seed=1), "b": normal(6, seed=2)}
FUSE = ["elementwise_fusion", "epilogue_fusion"]


@pytest.mark.parametrize("pads", ["pads=[1,1,1,1]", 'auto_pad="SAME_UPPER"'])
@pytest.mark.parametrize("bias", ["", ", bias"])
@pytest.mark.parametrize("body", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
def test_an_activation_joins_the_convolution(body: str, bias: str, pads: str) -> None:
    body = f"x = Conv<{pads}>(image, w{bias})  {body}"
    proto = model(
        f"(float[2,6,8,8] image) => (float[a,b,c1,d1] y) {{ {body} }}",
        six0=np.array(6, "float32"), two=np.array(2), **SCALARS, w=normal(6, 6, 3, 3) / 9,
        bias=normal(6),
    )  # fmt: skip
    graph = agree(proto, {"image": IMAGE["x"]}, FUSE, tolerance=1e-4)
    assert counts(graph) == {"rekindle::Conv": 1}
    assert graph.nodes[0].attrs["pads"] == (1, 1, 1, 1)
    assert "auto_pad" not in graph.nodes[0].attrs


def test_a_residual_block_becomes_two_convolutions() -> None:
    proto = model(
        "(float[2,6,8,8] x) => (float[2,6,8,8] y)"
        "{ a = Conv<pads=[1,1,1,1]>(x, w)  r = Relu(a)  c = Conv(r, w2, b)  s = Add(c, x)"
        "  y = Relu(s) }",
        **WEIGHTS,
    )
    graph = agree(proto, IMAGE, FUSE, tolerance=1e-4)
    assert counts(graph) == {"rekindle::Conv": 2}
    assert graph.nodes[1].inputs == ("r", "w2", "b", "x")


@pytest.mark.parametrize("order", ["c, d", "d, c"])
def test_of_two_convolutions_under_an_add_the_later_takes_it(order: str) -> None:
    proto = model(
        "(float[2,6,8,8] x) => (float[2,6,8,8] y)"
        f"{{ c = Conv<pads=[1,1,1,1]>(x, w)  d = Conv(x, w2)  s = Add({order})  y = Relu(s) }}",
        **WEIGHTS,
    )
    graph = agree(proto, IMAGE, FUSE, tolerance=1e-4)
    assert counts(graph) == {"Conv": 1, "rekindle::Conv": 1}
    assert graph.nodes[1].inputs == ("x", "w2", "", "c")


def test_a_residual_made_after_the_convolution_is_waited_for() -> None:
    proto = model(
        "(float[2,6,8,8] x) => (float[2,6,8,8] y)"
        "{ c = Conv<pads=[1,1,1,1]>(x, w)  t = Transpose<perm=[0,1,3,2]>(x)  y = Add(t, c) }",
        **WEIGHTS,
    )
    graph = agree(proto, IMAGE, FUSE, tolerance=1e-4)
    assert [n.qualified for n in graph.nodes] == ["Transpose", "rekindle::Conv"]


def test_an_epilogue_grows_by_the_next_node() -> None:
    proto = model(
        "(float[2,6,8,8] x) => (float[2,6,8,8] y)"
        "{ c = Conv<pads=[1,1,1,1]>(x, w)  r = Relu(c)  a = Add(r, x)  m = Mul(a, x)"
        "  y = Tanh(m) }",
        **WEIGHTS,
    )
    graph = agree(proto, IMAGE, ["epilogue_fusion"], tolerance=1e-4)
    assert counts(graph) == {"rekindle::Conv": 1}
    assert graph.nodes[0].inputs == ("x", "w", "", "x")


@pytest.mark.parametrize(
    "tail",
    [
        "y = Mul(c, gate)",  # a gate per channel is not of the output's shape
        "y = Mul(c, deep)",  # the result is larger than the convolution
        "r = Relu(c)  y = Add(c, r)  z = Neg(c)",  # somebody else reads it
        "y = Cast<to=10>(c)",  # another dtype
        "i = Cast<to=7>(x)  f = Cast<to=9>(i)  y = Where(f, c, x)",  # a condition is no float
    ],
)
def test_what_does_not_fit_an_epilogue_stays(tail: str) -> None:
    result = "float16[a,e,f1,g1] y" if "to=10" in tail else "float[a,e,f1,g1] y"
    result = "float[a,e,f1,g1,h] y" if "deep" in tail else result
    extra = ", float[a,e,f1,g1] z" if "z =" in tail else ""
    proto = model(
        f"(float[2,6,8,8] x, float[2,6,1,1] gate, float[2,1,6,8,8] deep) => ({result}{extra})"
        f"{{ c = Conv<pads=[1,1,1,1]>(x, w)  {tail} }}",
        **WEIGHTS,
    )
    feeds = {**IMAGE, "gate": normal(2, 6, 1, 1), "deep": normal(2, 1, 6, 8, 8)}
    graph = agree(proto, feeds, ["epilogue_fusion"], tolerance=1e-3)
    assert counts(graph)["Conv"] == 1


def test_an_epilogue_has_a_bounded_number_of_operands() -> None:
    many = [f"r{i}" for i in range(MAX_OPERANDS + 2)]
    inputs = ", ".join(f"float[2,6,8,8] {n}" for n in ["x", *many])
    adds = "  ".join(f"s{i + 1} = Add(s{i}, {n})" for i, n in enumerate(many))
    proto = model(
        f"({inputs}) => (float[2,6,8,8] y) {{ s0 = Conv<pads=[1,1,1,1]>(x, w)  {adds}"
        f"  y = Relu(s{len(many)}) }}",
        **WEIGHTS,
    )
    feeds = {n: normal(2, 6, 8, 8, seed=i) for i, n in enumerate(["x", *many])}
    graph = agree(proto, feeds, ["epilogue_fusion"], tolerance=1e-4)
    (conv,) = (n for n in graph.nodes if n.op_type == "Conv")
    assert len(conv.inputs) == 3 + MAX_OPERANDS


def test_a_chain_through_the_batch_of_one_shapes() -> None:
    """One element is always allowed, whatever its rank, and never written into the expression."""
    proto = model(
        "(float[1,6,8,8] x, float[1,1] t) => (float[1,6,8,8] y)"
        "{ c = Conv<pads=[1,1,1,1]>(x, w)  m = Mul(c, t)  y = Add(m, x) }",
        **WEIGHTS,
    )
    graph = agree(proto, {"x": normal(1, 6, 8, 8), "t": normal(1, 1)}, FUSE, tolerance=1e-4)
    assert set(graph.nodes[0].inputs[3:]) == {"t", "x"}


MATRICES = {
    "a": normal(2, 4, 5), "b": normal(2, 5, 3, seed=1), "bt": normal(2, 3, 5, seed=2),
    "at": normal(2, 5, 4, seed=3), "c": normal(3, seed=4),
}  # fmt: skip
PRODUCTS = {
    "plain": ("y = MatMul(a, b)", {"MatMul": 1}),
    "right": ("t = Transpose<perm=[0,2,1]>(bt)  y = MatMul(a, t)", {"rekindle::MatMul": 1}),
    "left": ("t = Transpose<perm=[0,2,1]>(at)  y = MatMul(t, b)", {"rekindle::MatMul": 1}),
    "both": (
        "t = Transpose<perm=[0,2,1]>(at)  u = Transpose<perm=[0,2,1]>(bt)  y = MatMul(t, u)",
        {"rekindle::MatMul": 1},
    ),
    "other axes": (
        "t = Transpose<perm=[1,0,2]>(b)  u = Transpose<perm=[1,0,2]>(t)  y = MatMul(a, u)",
        {"Transpose": 2, "MatMul": 1},
    ),
    "linear": (
        "t = Transpose<perm=[0,2,1]>(bt)  m = MatMul(a, t)  d = Add(m, c)  y = Relu(d)",
        {"rekindle::MatMul": 1},
    ),
}


@pytest.mark.parametrize(("body", "expected"), PRODUCTS.values(), ids=PRODUCTS.keys())
def test_matrix_products(body: str, expected: dict[str, int]) -> None:
    inputs = ", ".join(f"float[{','.join(map(str, v.shape))}] {n}" for n, v in MATRICES.items())
    proto = model(f"({inputs}) => (float[2,4,3] y) {{ {body} }}")
    graph = agree(proto, MATRICES, ["transpose_matmul", *FUSE])
    assert counts(graph) == expected


@pytest.mark.parametrize("flags", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("c", ["", ", c", ", full", ", one"])
def test_gemm_becomes_a_product_with_an_epilogue(flags: tuple[int, int], c: str) -> None:
    a, b = ("at" if flags[0] else "a"), ("bt" if flags[1] else "b")
    proto = model(
        "(float[4,5] a, float[5,4] at) => (float[4,3] y)"
        f"{{ g = Gemm<transA={flags[0]}, transB={flags[1]}, alpha=0.5, beta=3.0>({a}, {b}{c})"
        "  y = Relu(g) }",
        b=normal(5, 3), bt=normal(3, 5), c=normal(3), full=normal(4, 3), one=normal(1),
    )  # fmt: skip
    feeds = {"a": normal(4, 5), "at": normal(5, 4)}
    graph = agree(proto, feeds, ["transpose_matmul", *FUSE])
    assert counts(graph) == {"rekindle::MatMul": 1}
    assert graph.nodes[0].attrs["transpose_a"] is bool(flags[0])


def test_a_transpose_before_a_gemm_turns_its_flag() -> None:
    proto = model(
        "(float[5,4] x) => (float[4,3] y)"
        "{ t = Transpose<perm=[1,0]>(x)  y = Gemm<transB=1>(t, w) }",
        w=normal(3, 5),
    )
    graph = agree(proto, {"x": normal(5, 4)}, ["transpose_matmul"])
    assert counts(graph) == {"rekindle::MatMul": 1}
    assert graph.nodes[0].attrs["transpose_a"] is True


def test_vectors_and_integers_stay_plain_products() -> None:
    proto = model(
        "(float[5] v, float[5,3] m, int32[2,2] i) => (float[3] y, int32[2,2] z)"
        "{ p = MatMul(v, m)  y = Relu(p)  q = MatMul(i, i)  z = Neg(q) }"
    )
    feeds = {"v": normal(5), "m": normal(5, 3), "i": np.arange(4, dtype="int32").reshape(2, 2)}
    graph = agree(proto, feeds, ["transpose_matmul", *FUSE])
    assert counts(graph) == {"MatMul": 2, "Relu": 1, "Neg": 1}


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [1, 2, 3], [2]])
def test_a_spatial_mean_is_a_global_pool(opset: int, keep: int, axes: list[int]) -> None:
    call = "x, axes" if opset >= 18 else "x"
    listed = "" if opset >= 18 else f", axes={axes}"
    rank = 4 if keep else 4 - len(axes)
    dims = ",".join("abde"[:rank])
    proto = model(
        f"(float[2,6,8,8] x) => (float[{dims}] y)"
        f"{{ m = ReduceMean<keepdims={keep}{listed}>({call})  y = Relu(m) }}",
        axes=np.array(axes), opset=opset,
    )  # fmt: skip
    graph = agree(proto, IMAGE, ["global_average_pool"])
    assert ("GlobalAveragePool" in counts(graph)) == (len(axes) == 2)
    assert counts(graph).get("Flatten", 0) == (len(axes) == 2 and not keep)


def constants(expr: Expr) -> list[float]:
    match expr:
        case Const(value):
            return [value]
        case Call(_, args):
            return [c for a in args for c in constants(a)]
        case _:
            return []


def test_clip_limits_are_in_the_epilogue_not_among_the_operands() -> None:
    proto = model(
        "(float[2,6,8,8] x) => (float[2,6,8,8] y)"
        "{ c = Conv<pads=[1,1,1,1]>(x, w)  y = Clip(c, zero, six) }",
        w=normal(6, 6, 3, 3), zero=np.array(0, "float32"), six=np.array(6, "float32"),
    )  # fmt: skip
    graph = agree(proto, IMAGE, FUSE, tolerance=1e-4)
    assert graph.nodes[0].inputs == ("x", "w", "")
    assert sorted(constants(graph.nodes[0].attrs["epilogue"])) == [0.0, 6.0]


def test_half_precision_keeps_its_dtype() -> None:
    graph = graph_of(
        "(float16[1,2,4,4] x) => (float16[1,2,4,4] y)"
        "{ c = Conv(x, w)  s = Sigmoid(c)  y = Mul(c, s) }",
        w=normal(2, 2, 1, 1, dtype="float16"),
    )
    x = normal(1, 2, 4, 4, dtype="float16")
    fused = run(graph, FUSE, check=True)
    assert counts(fused) == {"rekindle::Conv": 1}
    before, after = compute(graph, {"x": x})["y"], compute(fused, {"x": x})["y"]
    assert after.dtype == np.float16
    np.testing.assert_allclose(after, before, rtol=4e-3, atol=4e-3)
