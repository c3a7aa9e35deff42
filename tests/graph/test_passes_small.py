"""Folding, dead nodes, identities, padding and batch normalization: same results, fewer nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from small_models import CPU, agree, compute, counts, graph_of, model, normal, optimized

from rekindle._errors import ModelError, NotFoundError
from rekindle.graph import passes
from rekindle.graph.ir import Graph, Node
from rekindle.graph.onnx_io import load_bytes
from rekindle.graph.order import reads
from rekindle.graph.passes import REGISTRY, run
from rekindle.runtime._options import Precision

IMAGE = {"x": normal(2, 3, 8, 8)}


def test_every_pass_has_its_place_in_an_order() -> None:
    orders = [(*passes.portable(p), *passes.device(p)) for p in get_args(Precision)]
    assert {name for order in orders for name in order} == set(REGISTRY.names())


def test_an_unknown_pass_is_refused_with_a_near_name() -> None:
    graph = graph_of("(float[2] x) => (float[2] y) { y = Relu(x) }")
    with pytest.raises(NotFoundError, match="dead_nodes"):
        run(graph, ["dead_node"])


def test_check_names_the_pass_that_broke_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of("(float[2] x) => (float[2] y) { y = Relu(x) }")

    def breaks(graph, target):
        broken = graph.copy()
        broken.nodes.append(Node("Relu", ("nowhere",), ("z",)))
        return broken

    monkeypatch.setitem(REGISTRY._entries, "dead_nodes", breaks)
    with pytest.raises(ModelError, match=r"pass dead_nodes broke the graph.*'nowhere'"):
        run(graph, ["dead_nodes"], check=True)


@pytest.mark.parametrize("names", [passes.PORTABLE, passes.DEVICE])
def test_passes_leave_their_argument_alone(names: tuple[str, ...]) -> None:
    proto = model(
        "(float[2,3,8,8] x) => (float[2,4,8,8] y)"
        "{ c = Conv<pads=[1,1,1,1]>(x, w)  b = BatchNormalization(c, s, s, s, v)"
        "  i = Identity(b)  y = Relu(i) }",
        w=normal(4, 3, 3, 3), s=normal(4), v=np.ones(4, "float32"),
    )  # fmt: skip
    graph = optimized(proto, IMAGE, [])
    before = repr(graph)
    run(graph, names, CPU)
    assert repr(graph) == before


def test_constants_are_folded_through_a_chain() -> None:
    proto = model(
        "(float[2,3] x) => (float[2,3] y)"
        "{ two = Constant<value = float {2.0}>()  four = Mul(two, two)  s = Sqrt(four)"
        "  y = Add(x, s) }"
    )
    graph = agree(proto, {"x": normal(2, 3)}, ["constant_folding"])
    assert counts(graph) == {"Add": 1}
    assert list(graph.initializers) == ["s"]


def test_a_constant_output_is_folded_and_still_an_output() -> None:
    proto = model("(float[2,3] x) => (int64[2] s, float[2,3] y) { s = Shape(x)  y = Relu(x) }")
    graph = agree(proto, {"x": normal(2, 3)}, ["constant_folding", "dead_nodes"])
    assert counts(graph) == {"Relu": 1}
    assert graph.initializers["s"].tolist() == [2, 3]


def test_shape_arithmetic_of_a_dynamic_batch_folds_once_bound() -> None:
    proto = model(
        "(float[N,2,6] x) => (float[N,12] y)"
        "{ s = Shape(x)  n = Gather<axis=0>(s, zero)  u = Unsqueeze(n, axes)"
        "  t = Concat<axis=0>(u, minus)  y = Reshape(x, t) }",
        zero=np.array(0), axes=np.array([0]), minus=np.array([-1]),
    )  # fmt: skip
    graph = agree(proto, {"x": normal(5, 2, 6)}, ["constant_folding"])
    assert counts(graph) == {"Reshape": 1}
    assert graph.values["y"].shape == (5, 12)


def test_a_constant_too_large_to_keep_stays_a_node() -> None:
    graph = graph_of(
        "(float[1] x) => (float[1] y)"
        "{ big = ConstantOfShape(shape)  m = ReduceMax<keepdims=0>(big)  y = Add(x, m) }",
        shape=np.array([1 << 20, 1 << 12]),
    )
    folded = run(graph, ["constant_folding"], check=True)
    assert "ConstantOfShape" in counts(folded)
    assert folded.values["big"].shape == (1 << 20, 1 << 12)


def test_dead_nodes_outputs_and_constants_go() -> None:
    proto = model(
        "(float[1,1,4,4] x) => (float[1,1,2,2] y)"
        "{ y, where = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)  a = Add(x, c)  b = Relu(a) }",
        c=np.ones(1, "float32"),
    )
    graph = agree(proto, {"x": normal(1, 1, 4, 4)}, ["dead_nodes"])
    assert counts(graph) == {"MaxPool": 1}
    assert graph.nodes[0].outputs == ("y",)
    assert not graph.initializers
    assert set(graph.values) == {"x", "y"}


@pytest.mark.parametrize(
    "node",
    [
        "Identity(r)",
        "Cast<to=1>(r)",
        "Reshape(r, same)",
        "Reshape(r, keep)",
        "Transpose<perm=[0,1,2,3]>(r)",
        "Pad(r, none)",
        "Slice(r, start, end, axes)",
        "Concat<axis=1>(r)",
        "Dropout(r, ratio)",
        "Dropout(r, ratio, off)",
        "Expand(r, ones)",
        "Tile(r, ones)",
        "Sum(r)",
    ],
)
def test_nodes_that_change_nothing_go(node: str) -> None:
    proto = model(
        f"(float[2,3,8,8] x) => (float[2,3,8,8] y) {{ r = Relu(x)  i = {node}  y = Relu(i) }}",
        same=np.array([2, 3, 8, 8]), keep=np.array([0, 0, 8, -1]), none=np.zeros(8, "int64"),
        start=np.array([0]), end=np.array([2**62]), axes=np.array([2]), ones=np.ones(4, "int64"),
        ratio=np.array(0.5, "float32"), off=np.array(False),
    )  # fmt: skip
    assert counts(agree(proto, IMAGE, ["identity_elimination"])) == {"Relu": 2}


CHANGES = [
    "i = Slice(x, end, start, axes, back)",
    "i = Transpose<perm=[0,1,3,2]>(x)",
    "i = Pad(x, some)",
]


@pytest.mark.parametrize("node", CHANGES)
def test_nodes_that_keep_the_shape_but_not_the_values_stay(node: str) -> None:
    proto = model(
        "(float[2,3,8,8] x) => (float[2,3,8,8] y) { " + node + "  y = Relu(i) }",
        end=np.array([-1]), start=np.array([-(2**62)]), axes=np.array([2]), back=np.array([-1]),
        some=np.array([0, 0, 1, 0, 0, 0, -1, 0]),
    )  # fmt: skip
    assert len(agree(proto, IMAGE, ["identity_elimination"]).nodes) == 2


def test_an_output_behind_an_identity_keeps_its_name() -> None:
    proto = model(
        "(float[2,3] x) => (float[2,3] y, float[2,3] z, float[2,3] again)"
        "{ r = Relu(x)  i = Identity(r)  y = Identity(i)  z = Sigmoid(i)  again = Identity(r) }"
    )
    graph = agree(proto, {"x": normal(2, 3)}, ["identity_elimination"])
    assert graph.outputs == ("y", "z", "again")
    assert counts(graph) == {"Relu": 1, "Sigmoid": 1, "Identity": 1}


def test_an_identity_between_input_and_output_stays() -> None:
    proto = model("(float[2] x) => (float[2] y) { a = Identity(x)  y = Identity(a) }")
    assert counts(agree(proto, {"x": normal(2)}, ["identity_elimination"])) == {"Identity": 1}


def test_a_dynamic_reshape_stays_whatever_its_dimensions_are_called() -> None:
    graph = graph_of(
        "(float[N,M] x) => (float[N,M] z) { y = Reshape(x, t)  z = Relu(y) }",
        t=np.array([-1, 4]),
    )
    graph.values["y"] = replace(graph.values["y"], shape=("N", "M"))
    assert "Reshape" in counts(run(graph, ["identity_elimination"], check=True))


def test_identities_go_from_what_subgraphs_read() -> None:
    """Operators with subgraphs are not run yet, but passes must not cut what they read."""
    graph = graph_of("(float[2] x) => (float[2] y) { a = Relu(x)  i = Identity(a)  y = Exp(x) }")
    inner = Graph("g", (), ("o",), [Node("Neg", ("i",), ("o",))], {}, {}, {})
    shadow = Graph("s", ("i",), ("i",), [], {}, {}, {})
    attrs = {"then_branch": inner, "list": (inner, shadow), "number": 1}
    graph.nodes.append(Node("If", ("x",), ("z",), attrs))
    graph.outputs = ("y", "z")
    after = run(graph, ["identity_elimination", "dead_nodes"])
    assert [n.op_type for n in after.nodes] == ["Relu", "Exp", "If"]
    branch = after.nodes[2]
    assert reads(branch) == ("x", "a")
    assert branch.attrs["list"][1] == shadow
    assert graph.nodes[3].attrs["then_branch"].nodes[0].inputs == ("i",)


PADDED = {
    "Conv": "y = Conv<pads=[0,1,0,1]>(p, w)",
    "AveragePool": "y = AveragePool<kernel_shape=[3,3], strides=[2,2]>(p)",
}


@pytest.mark.parametrize("node", PADDED.values(), ids=PADDED.keys())
@pytest.mark.parametrize("axes", ["", ", , axes"])
def test_padding_joins_what_follows(node: str, axes: str) -> None:
    pads = [1, 2, 1, 0] if axes else [0, 0, 1, 2, 0, 0, 1, 0]
    proto = model(
        f"(float[2,3,8,8] x) => (float[N,M,H,W] y) {{ p = Pad(x, pads{axes})  {node} }}",
        pads=np.array(pads), axes=np.array([2, -1]), w=normal(4, 3, 3, 3), opset=18,
    )  # fmt: skip
    assert "Pad" not in counts(agree(proto, IMAGE, ["pad_conv"]))


def test_padding_as_attributes_of_old_opsets() -> None:
    body = "(float[2,3,8,8] x) => (float[N,M,H,W] y) {{ p = Pad<{}>(x)  y = Conv(p, w) }}"
    pads, w = "pads=[0,0,1,1,0,0,2,1]", normal(4, 3, 3, 3)
    plain = agree(model(body.format(pads), w=w, opset=10), IMAGE, ["pad_conv"])
    assert counts(plain) == {"Conv": 1}
    ones = agree(model(body.format(pads + ", value=1.0"), w=w, opset=10), IMAGE, ["pad_conv"])
    assert counts(ones) == {"Pad": 1, "Conv": 1}


def test_padding_that_is_computed_stays() -> None:
    proto = model(
        "(float[2,3,8,8] x, int64[8] pads) => (float[N,M,H,W] y) { p = Pad(x, pads)"
        "  y = Conv(p, w) }",
        w=normal(4, 3, 3, 3),
    )
    graph = load_bytes(proto.SerializeToString())
    assert counts(run(graph, ["pad_conv"], check=True)) == {"Pad": 1, "Conv": 1}


@pytest.mark.parametrize(
    ("limits", "joins"), [("zero, six", True), ("minus, six", False), ("zero, minus", False)]
)
def test_a_clip_tells_whether_a_maximum_may_be_padded(limits: str, joins: bool) -> None:
    proto = model(
        f"(float[2,3,8,8] x) => (float[N,M,H,W] y) {{ r = Clip(x, {limits})  p = Pad(r, pads)"
        "  y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(p) }",
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]), zero=np.array(0, "float32"),
        six=np.array(6, "float32"), minus=np.array(-1, "float32"),
    )  # fmt: skip
    assert ("Pad" not in counts(agree(proto, IMAGE, ["pad_conv"]))) is joins


def test_padding_joins_a_maximum_of_what_is_not_negative() -> None:
    body = (
        "(float[2,3,8,8] x) => (float[N,M,H,W] y)"
        "{{ r = {}(x)  p = Pad(r, pads)  y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(p) }}"
    )
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    assert "Pad" not in counts(agree(model(body.format("Relu"), pads=pads), IMAGE, ["pad_conv"]))
    assert "Pad" in counts(agree(model(body.format("Neg"), pads=pads), IMAGE, ["pad_conv"]))


@pytest.mark.parametrize(
    ("pad", "node"),
    [
        ("Pad<mode='reflect'>(x, pads)", PADDED["Conv"]),
        ("Pad(x, pads, one)", PADDED["Conv"]),
        ("Pad(x, channels)", "y = Conv(p, w5)"),
        ("Pad(x, negative)", PADDED["Conv"]),
        ("Pad(x, pads)", "y = Conv<auto_pad='SAME_UPPER'>(p, w)"),
        ("Pad(x, pads)", "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(p)"),
        ("Pad(x, pads)", "y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(p)"),
        ("Pad(x, pads)", "y = Relu(p)"),
    ],
)
def test_padding_stays_where_it_is_not_the_same(pad: str, node: str) -> None:
    proto = model(
        f"(float[2,3,8,8] x) => (float[N,M,H,W] y) {{ p = {pad.replace(chr(39), chr(34))} "
        f"{node.replace(chr(39), chr(34))} }}",
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]), channels=np.array([0, 1, 0, 0, 0, 1, 0, 0]),
        negative=np.array([0, 0, -1, 1, 0, 0, 1, 1]), one=np.array(1, "float32"),
        w=normal(4, 3, 3, 3), w5=normal(4, 5, 3, 3),
    )  # fmt: skip
    assert "Pad" in counts(agree(proto, IMAGE, ["pad_conv"]))


def test_padding_that_others_read_stays_for_them() -> None:
    proto = model(
        "(float[2,3,8,8] x) => (float[N,M,H,W] y, float[N,3,H,W] z)"
        "{ p = Pad(x, pads)  y = Conv(p, w)  z = Neg(p) }",
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]), w=normal(4, 3, 3, 3),
    )  # fmt: skip
    graph = agree(proto, IMAGE, ["pad_conv"])
    assert counts(graph) == {"Pad": 1, "Conv": 1, "Neg": 1}
    assert next(n for n in graph.nodes if n.op_type == "Conv").inputs[0] == "x"


def _norm(channels: int, seed: int = 3) -> dict[str, np.ndarray]:
    gen = np.random.default_rng(seed)
    return {
        "scale": gen.uniform(0.5, 2, channels).astype("float32"),
        "beta": gen.standard_normal(channels).astype("float32"),
        "mean": gen.standard_normal(channels).astype("float32"),
        "var": gen.uniform(0.1, 3, channels).astype("float32"),
    }


NORM = "BatchNormalization<epsilon=0.001>({}, scale, beta, mean, var)"


@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize(("group", "filters"), [(1, 5), (3, 6), (3, 3)])
def test_batch_normalization_joins_a_convolution(bias: str, group: int, filters: int) -> None:
    proto = model(
        f"(float[2,3,8,8] x) => (float[N,M,H,W] y)"
        f"{{ c = Conv<group={group}>(x, w{bias})  y = {NORM.format('c')} }}",
        w=normal(filters, 3 // group, 3, 3), b=normal(filters), **_norm(filters),
    )  # fmt: skip
    graph = agree(proto, IMAGE, ["conv_batch_norm"])
    assert counts(graph) == {"Conv": 1}
    assert len(graph.initializers) == 2


@pytest.mark.parametrize("transposed", [0, 1])
def test_batch_normalization_joins_a_gemm(transposed: int) -> None:
    shape = (5, 7) if transposed else (7, 5)
    proto = model(
        "(float[4,7] x) => (float[4,5] y)"
        f"{{ c = Gemm<transB={transposed}, alpha=0.5, beta=2.0>(x, w, b)"
        f"   y = {NORM.format('c')} }}",
        w=normal(*shape), b=normal(1, 5), **_norm(5),
    )  # fmt: skip
    assert counts(agree(proto, {"x": normal(4, 7)}, ["conv_batch_norm"])) == {"Gemm": 1}


def test_a_chain_of_channel_arithmetic_joins_a_convolution() -> None:
    proto = model(
        "(float[2,3,8,8] x) => (float[N,M,H,W] y)"
        f"{{ c = Conv(x, w)  n = {NORM.format('c')}  m = Mul(per, n)  a = Add(m, one)"
        "   d = Div(a, flat)  s = Sub(flat, d)  y = Sub(s, per) }",
        w=normal(5, 3, 3, 3), per=normal(5, 1, 1), one=np.array(0.25, "float32"),
        flat=np.abs(normal(1, 5, 1, 1)) + 1, **_norm(5),
    )  # fmt: skip
    assert counts(agree(proto, IMAGE, ["conv_batch_norm"])) == {"Conv": 1}


def test_weights_shared_by_two_convolutions_stay_right() -> None:
    proto = model(
        "(float[2,3,8,8] x) => (float[N,M,H,W] y, float[N,M,H,W] z)"
        f"{{ c = Conv(x, w)  y = {NORM.format('c')}  z = Conv(x, w) }}",
        w=normal(5, 3, 3, 3), **_norm(5),
    )  # fmt: skip
    assert counts(agree(proto, IMAGE, ["conv_batch_norm"])) == {"Conv": 2}


@pytest.mark.parametrize(
    "tail",
    [
        "y = Mul(c, rows)",  # along another axis
        "y = Mul(c, c)",
        "y = Div(per, c)",
        "y = Div(c, zero)",
        f"y = {NORM.format('c')}  z = Relu(c)",  # somebody else reads the convolution
        "y = Add(c, image)",
        "y = Mul(c, deep)",  # one axis more than the image
    ],
)
def test_what_is_not_per_channel_stays(tail: str) -> None:
    proto = model(
        f"(float[2,3,8,8] x) => ({'float[a,b,c1,d,e]' if 'deep' in tail else 'float[a,b,c1,d]'} y"
        f"{', float[f,g,h,i] z' if 'z =' in tail else ''}) {{ c = Conv(x, w)  {tail} }}",
        w=normal(6, 3, 3, 3), rows=normal(6, 1), per=normal(6, 1, 1), image=normal(1, 6, 6, 6),
        zero=np.zeros((1, 6, 1, 1), "float32"), deep=normal(1, 1, 6, 1, 1), **_norm(6),
    )  # fmt: skip
    before = len(optimized(proto, IMAGE, []).nodes)
    assert len(agree(proto, IMAGE, ["conv_batch_norm"], tolerance=1e-3).nodes) == before


def test_half_precision_weights_that_would_overflow_are_left_alone() -> None:
    graph = graph_of(
        "(float16[1,1,4,4] x) => (float16[1,1,4,4] y) { c = Conv(x, w)  y = Mul(c, big) }",
        w=np.full((1, 1, 1, 1), 300, "float16"), big=np.full((1, 1, 1), 300, "float16"),
    )  # fmt: skip
    x = np.full((1, 1, 4, 4), 1e-2, "float16")
    folded = run(graph, ["conv_batch_norm"], check=True)
    assert counts(folded) == {"Conv": 1, "Mul": 1}
    assert np.isfinite(compute(folded, {"x": x})["y"]).all()


def test_nan_and_infinity_pass_through() -> None:
    proto = model(
        "(float[2,3,8,8] x) => (float[N,M,H,W] y)"
        f"{{ p = Pad(x, pads)  c = Conv(p, w)  n = {NORM.format('c')}  i = Identity(n)"
        "   y = Relu(i) }",
        w=normal(5, 3, 3, 3), pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]), **_norm(5),
    )  # fmt: skip
    x = normal(2, 3, 8, 8)
    x[0, 1, 2, 3], x[1, 0, 0, 0] = np.nan, np.inf
    graph = agree(proto, {"x": x}, passes.PORTABLE)
    assert counts(graph) == {"Conv": 1, "Relu": 1}
    assert np.isnan(compute(graph, {"x": x})["y"]).any()
