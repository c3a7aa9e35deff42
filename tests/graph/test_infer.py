"""Types of values, and graphs bound to concrete shapes."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from small_models import compute, counts, graph_of, model, normal, onnx_runtime

from rekindle._errors import InputError, ModelError
from rekindle._types import DType
from rekindle.graph import infer as infer_module
from rekindle.graph.infer import bind, fold, infer
from rekindle.graph.ir import Graph, Node, Value
from rekindle.graph.onnx_io import load_bytes

NET = (
    "(float[N,3,H,W] x, float[N,1,1,1] scale) => (float[N,4,a,b] y, float[N,k] flat)"
    "{ c = Conv<pads=[1,1,1,1]>(x, w)  m = Mul(c, scale)  y = Relu(m)  flat = Flatten(m) }"
)


def net() -> Graph:
    return graph_of(NET, w=normal(4, 3, 3, 3))


def test_symbolic_dimensions_flow_through() -> None:
    graph = net()
    assert graph.values["c"].shape == ("N", 4, "H", "W")
    assert graph.values["m"].shape == ("N", 4, "H", "W")
    assert graph.values["y"].shape == ("N", 4, "H", "W")


def test_bound_graphs_are_static_and_their_types_are_true() -> None:
    graph = net()
    feeds = {"x": normal(2, 3, 5, 7), "scale": normal(2, 1, 1, 1)}
    bound = bind(graph, {n: a.shape for n, a in feeds.items()})
    assert all(v.is_static for v in bound.values.values())
    assert bound.values["flat"].shape == (2, 4 * 5 * 7)
    for name, array in compute(bound, feeds).items():
        assert array.shape == bound.values[name].static_shape
    assert graph.values["x"].shape == ("N", 3, "H", "W")


def test_a_dimension_given_by_one_input_serves_the_other() -> None:
    assert bind(net(), {"x": (2, 3, 5, 7)}).values["scale"].shape == (2, 1, 1, 1)


def test_declared_types_fill_gaps_but_do_not_overrule() -> None:
    graph = graph_of("(float[N,4] x) => (float[N,4] y) { a = Relu(x)  y = Exp(a) }")
    graph.values["a"] = Value("a", DType.FLOAT32, (7, 9))
    assert infer(graph).values["a"].shape == ("N", 4)
    graph.values["a"] = Value("a", DType.FLOAT32, (1, 2, 3))
    assert infer(graph).values["a"].shape == ("N", 4)
    graph.values["a"] = Value("a", DType.INT64, ("N", 4))
    with pytest.raises(ModelError, match="'a' is declared as int64, but is float32"):
        infer(graph)


def test_names_an_operator_makes_up_give_way_to_declared_ones() -> None:
    graph = graph_of("(float[N] x) => (int64[1,count] y) { y = NonZero(x) }")
    assert graph.values["y"].shape == (1, "count")


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"z": (1,)}, "no input 'z' .*'x', 'scale'"),
        ({}, r"'x' has the dynamic shape \(N, 3, H, W\)"),
        ({"scale": (2, 1, 1, 1)}, "'x' has the dynamic shape"),
        ({"x": (2, 3, 5)}, r"expected shape \(N, 3, H, W\), got \(2, 3, 5\): rank 3"),
        ({"x": (2, 4, 5, 7)}, r"got \(2, 4, 5, 7\): axis 1 must be 3"),
        ({"x": (2, 3, 5, 7), "scale": (3, 1, 1, 1)}, "'N' is 2 in input 'x', but 3 in axis 0"),
        ({"x": (2, 3, -5, 7)}, "is not a shape"),
        ({"x": (2.0, 3, 5, 7)}, "is not a shape"),
        ({"x": (True, 3, 5, 7)}, "is not a shape"),
    ],
)
def test_shapes_that_do_not_fit_say_what_was_expected(shapes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        bind(net(), shapes)


def test_shapes_the_graph_cannot_work_on() -> None:
    graph = graph_of(
        "(float[N,3,H,W] x) => (float[N,4,a,b] y) { y = Conv(x, w) }", w=normal(4, 3, 5, 5)
    )
    with pytest.raises(ModelError, match="window"):
        bind(graph, {"x": (1, 3, 4, 9)})


def test_numpy_integers_are_sizes_and_a_batch_may_be_empty() -> None:
    bound = bind(net(), {"x": (np.int64(0), 3, 5, 7)})
    assert bound.values["y"].shape == (0, 4, 5, 7)
    assert all(type(d) is int for d in bound.values["x"].static_shape)


def test_an_input_of_unknown_rank_must_be_given() -> None:
    proto = model("(float[2] x) => (float[2] y) { y = Relu(x) }")
    for info in (proto.graph.input[0], proto.graph.output[0]):
        info.type.tensor_type.ClearField("shape")
    graph = load_bytes(proto.SerializeToString())
    assert graph.values["y"].shape is None
    with pytest.raises(InputError, match="unknown rank"):
        bind(graph, {})
    assert bind(graph, {"x": (3, 4)}).values["y"].shape == (3, 4)


def test_shape_arithmetic_folds_jointly_with_types() -> None:
    proto = model(
        "(float[N,4,6] x) => (float[a,b] y)"
        "{ s = Shape(x)  n = Gather<axis=0>(s, zero)  half = Div(n, two)"
        "  u = Unsqueeze(half, axes)  t = Concat<axis=0>(u, minus)  y = Reshape(x, t) }",
        zero=np.array(0), two=np.array(2), axes=np.array([0]), minus=np.array([-1]),
    )  # fmt: skip
    bound = bind(load_bytes(proto.SerializeToString()), {"x": (6, 4, 6)})
    assert counts(bound) == {"Reshape": 1}
    assert bound.values["y"].shape == (3, 48)
    feeds = {"x": normal(6, 4, 6)}
    np.testing.assert_array_equal(compute(bound, feeds)["y"], onnx_runtime(proto, feeds)["y"])


def test_what_depends_on_data_stays_open() -> None:
    graph = graph_of("(float[N] x) => (int64[1,M] y) { y = NonZero(x) }")
    bound = bind(graph, {"x": (5,)})
    assert bound.values["x"].is_static
    assert not bound.values["y"].is_static


def test_what_depends_on_constant_data_is_computed_where_it_is_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = "(float[2] x) => (int64[1,M] y, float[2] z) { y = NonZero(c)  z = Relu(x) }"
    graph = graph_of(body, c=np.array([0, 1, 0, 1], "float32"))
    assert graph.values["y"].shape == (1, 2)
    monkeypatch.setattr(infer_module, "_SHAPE_BYTES", 4)
    assert infer(replace(graph, values={"x": graph.values["x"]})).values["y"].shape == (1, "y.1")


def test_random_numbers_are_not_constants() -> None:
    graph = graph_of("(float[2] x) => (float[2] y) { y = Relu(x) }")
    graph.nodes.insert(0, Node("RandomNormal", (), ("r",), {"shape": (2,)}))
    assert [n.op_type for n in fold(graph).nodes][:1] == ["RandomNormal"]


def test_slow_constants_are_left_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(
        "(float[1,1,2,2] x) => (float[1,1,2,2] y) { c = Conv(image, w)  y = Add(x, c) }",
        image=normal(1, 8, 4, 4), w=normal(1, 8, 3, 3),
    )  # fmt: skip
    assert counts(fold(graph)) == {"Add": 1}
    monkeypatch.setattr(infer_module, "FOLD_LIMIT_FLOPS", 100)
    assert counts(fold(graph)) == {"Conv": 1, "Add": 1}


def test_weights_are_rearranged_whatever_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer_module, "FOLD_LIMIT_BYTES", 10)
    graph = graph_of(
        "(float[2,4] x) => (float[2,6] y) { t = Transpose(w)  e = Expand(s, d)  y = MatMul(x, t) }",
        w=normal(6, 4), s=normal(1), d=np.array([100]),
    )  # fmt: skip
    assert counts(fold(graph)) == {"Expand": 1, "MatMul": 1}


def test_constants_are_contiguous_and_zero_dimensional_ones_stay_so() -> None:
    graph = graph_of(
        "(float[2] x) => (float[2] y) { t = Transpose(w)  s = ReduceSum<keepdims=0>(t)"
        "  m = Mul(x, s)  y = MatMul(m, t) }",
        w=normal(2, 2),
    )
    folded = fold(graph)
    assert folded.initializers["t"].flags["C_CONTIGUOUS"]
    assert folded.initializers["s"].shape == ()


def test_a_constant_that_cannot_be_computed_names_its_node() -> None:
    proto = model(
        "(float[2] x) => (float[2] y) { r = Reshape(w, s)  y = Add(x, r) }",
        w=normal(6), s=np.array([4]),
    )  # fmt: skip
    with pytest.raises(ModelError, match=re.escape("Reshape")):
        load_bytes(proto.SerializeToString())
