"""Mutated model files: whatever the bytes, only a RekindleError comes out, and soon.

Two kinds of damage: to the bytes of a file (flips, cuts, splices, repeats), and to the model it
holds (names, dimensions, attributes, operators), which passes the parser and goes deeper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto, TensorProto, helper
from small_models import CPU, model, normal

from rekindle._errors import RekindleError
from rekindle._types import DType
from rekindle.graph.infer import bind
from rekindle.graph.ir import Graph
from rekindle.graph.onnx_io import load_bytes
from rekindle.graph.passes import DEVICE, PORTABLE, run

FUNCTIONS = """
<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
test (float[N,2] x) => (float[N,2] y) { a = local.twice(x)  y = local.twice(a) }
<domain: "local", opset_import: ["" : 17]>
twice (v) => (w) { h = Mul(v, v)  w = Add(h, v) }
"""
SEEDS = [
    model(
        "(float[N,3,8,8] x) => (float[N,4] y)"
        "{ p = Pad(x, pads)  c = Conv<strides=[2,2], group=1>(p, w, b)"
        "  n = BatchNormalization(c, b, b, b, v)  r = Clip(n, zero, six)"
        "  m = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(r)  a = Add(m, r)"
        "  g = GlobalAveragePool(a)  f = Flatten(g)  y = Gemm<transB=1>(f, k) }",
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]), w=normal(4, 3, 3, 3), b=normal(4),
        v=np.ones(4, "float32"), zero=np.array(0, "float32"), six=np.array(6, "float32"),
        k=normal(4, 4),
    ),
    model(
        "(float[N,2,6] x) => (float[N,12] y)"
        "{ s = Shape(x)  n = Gather<axis=0>(s, zero)  u = Unsqueeze(n, axes)"
        "  t = Concat<axis=0>(u, minus)  q = Reshape(x, t)  e = ConstantOfShape(t)"
        "  z = Slice(q, axes, minus, axes)  o = Transpose<perm=[0,1]>(q)"
        "  i = Cast<to=7>(o)  h = Cast<to=1>(i)  y = Softmax<axis=1>(h) }",
        zero=np.array(0), axes=np.array([0]), minus=np.array([-1]),
    ),
    model(
        "(float[N,4,6] x) => (float[N,4,2] a, float[N,4,2] b, float[N,4,2] y)"
        "{ a, b, c = Split<axis=2>(x)  m = Mul(a, c)  d = ReduceMean<axes=[2]>(m)"
        "  e = Sub(b, d)  t = Tile(d, r)  k = Where(w, e, t)  y = Identity(k) }",
        r=np.array([1, 1, 2]), w=np.array([True, False]),
    ),
    onnx.parser.parse_model(FUNCTIONS),
]  # fmt: skip
BYTES = [seed.SerializeToString() for seed in SEEDS]
OPERATORS = [
    "Conv", "Add", "Reshape", "Split", "Gather", "Pad", "Slice", "Resize", "If", "Expand", "Range",
    "ReduceSum", "MatMul", "TopK", "Where", "NonZero", "OneHot", "Nope",
]  # fmt: skip
ODD = [-(2**63), -(2**31), -7, -1, 0, 1, 2, 3, 5, 17, 255, 2**31, 2**40, 2**62, 2**63 - 1]


def survive(data: bytes) -> None:
    """Load, bind and optimize; any exception but a RekindleError fails the test."""
    for allow_unknown in (True, False):
        try:
            graph = load_bytes(data, allow_unknown=allow_unknown)
        except RekindleError:
            return
    try:
        graph = run(graph, PORTABLE, check=True)
        bound = bind(graph, {n: _concrete(graph, n) for n in graph.inputs})
        run(bound, DEVICE, CPU, check=True)
    except RekindleError:
        return


def _concrete(graph: Graph, name: str) -> tuple[int, ...]:
    return tuple(d if isinstance(d, int) else 2 for d in graph.values[name].shape or (2,))


@st.composite
def damaged_bytes(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(BYTES)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        stop = draw(st.integers(start, min(start + 40, len(data))))
        kind = draw(st.sampled_from(["flip", "cut", "set", "insert", "splice", "repeat", "drop"]))
        if kind == "flip" and data:
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[start:]
        elif kind == "set":
            data[start:stop] = bytes([draw(st.integers(0, 255))]) * (stop - start)
        elif kind == "insert":
            data[start:start] = draw(st.binary(max_size=12))
        elif kind == "splice":
            other = draw(st.sampled_from(BYTES))
            at = draw(st.integers(0, len(other) - 1))
            data[start:stop] = other[at : at + 40]
        elif kind == "repeat":
            data[start:start] = data[start:stop] * draw(st.integers(1, 5))
        else:
            del data[start:stop]
    return bytes(data)


def _pick(draw: st.DrawFn, items: Sequence) -> object:
    return items[draw(st.integers(0, len(items) - 1))] if len(items) else None


def _rename(draw: st.DrawFn, proto: ModelProto) -> None:
    node = _pick(draw, proto.graph.node)
    names = draw(st.sampled_from([node.input, node.output])) if node else []
    if len(names):
        known = [n for other in proto.graph.node for n in (*other.input, *other.output)]
        names[draw(st.integers(0, len(names) - 1))] = draw(st.sampled_from([*known, "", "new"]))


def _input_count(draw: st.DrawFn, proto: ModelProto) -> None:
    node = _pick(draw, proto.graph.node)
    if node and draw(st.booleans()):
        node.input.append(draw(st.sampled_from(["x", ""])))
    elif node and len(node.input):
        node.input.pop()


def _drop(draw: st.DrawFn, proto: ModelProto) -> None:
    graph = proto.graph
    fields = [graph.node, graph.initializer, graph.input, graph.output, proto.opset_import]
    field = draw(st.sampled_from(fields))
    if len(field):
        del field[draw(st.integers(0, len(field) - 1))]


def _repeat(draw: st.DrawFn, proto: ModelProto) -> None:
    graph = proto.graph
    field = draw(st.sampled_from([graph.node, graph.initializer, graph.input, graph.output]))
    if len(field):
        field.append(_pick(draw, field))


def _operator(draw: st.DrawFn, proto: ModelProto) -> None:
    if node := _pick(draw, proto.graph.node):
        node.op_type = draw(st.sampled_from(OPERATORS))
        if draw(st.booleans()):
            del node.attribute[:]


def _attribute(draw: st.DrawFn, proto: ModelProto) -> None:
    node = _pick(draw, [n for n in proto.graph.node if len(n.attribute)])
    if not node:
        return
    attribute = _pick(draw, node.attribute)
    number = st.sampled_from(ODD)
    if attribute.type == AttributeProto.INT:
        attribute.i = draw(number)
    elif attribute.type == AttributeProto.INTS:
        attribute.ints[:] = draw(st.lists(number, max_size=5))
    else:
        new = draw(st.sampled_from([1, 1.5, "text", [1, 2], [0.5], ["a"]]))
        attribute.CopyFrom(helper.make_attribute(attribute.name, new))


def _dimension(draw: st.DrawFn, proto: ModelProto) -> None:
    graph = proto.graph
    info = _pick(draw, [*graph.input, *graph.output])
    if info and draw(st.booleans()):
        dim = _pick(draw, info.type.tensor_type.shape.dim)
        if dim:
            dim.dim_value = draw(st.sampled_from(ODD))
    elif info:
        info.type.tensor_type.elem_type = draw(st.integers(0, 25))


def _tensor(draw: st.DrawFn, proto: ModelProto) -> None:
    tensor = _pick(draw, proto.graph.initializer)
    if not tensor:
        return
    kind = draw(st.sampled_from(["dims", "type", "values"]))
    if kind == "dims":
        tensor.dims[:] = draw(st.lists(st.sampled_from(ODD), max_size=4))
    elif kind == "type":
        tensor.data_type = draw(st.integers(0, 25))
    elif tensor.data_type == TensorProto.INT64:
        count = len(tensor.raw_data) // 8
        values = draw(st.lists(st.sampled_from(ODD), min_size=count, max_size=count))
        tensor.raw_data = np.array(values, dtype="int64").tobytes()
    else:
        special = np.array([np.nan, np.inf, -np.inf, 3e38], "float32").tobytes()
        tensor.raw_data = (special * len(tensor.raw_data))[: len(tensor.raw_data)]


def _version(draw: st.DrawFn, proto: ModelProto) -> None:
    if entry := _pick(draw, proto.opset_import):
        entry.version = draw(st.sampled_from([*range(5, 30), *ODD]))


def _function(draw: st.DrawFn, proto: ModelProto) -> None:
    if function := _pick(draw, proto.functions):
        node = _pick(draw, function.node)
        if node:
            node.op_type, node.domain = draw(st.sampled_from([("twice", "local"), ("Neg", "")]))


DAMAGE: list[Callable[[st.DrawFn, ModelProto], None]] = [
    _rename, _input_count, _drop, _repeat, _operator, _attribute, _dimension, _tensor, _version,
    _function,
]  # fmt: skip


@st.composite
def damaged_models(draw: st.DrawFn) -> bytes:
    proto = ModelProto()
    proto.CopyFrom(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 3))):
        draw(st.sampled_from(DAMAGE))(draw, proto)
    return proto.SerializeToString()


QUICK = settings(max_examples=300, suppress_health_check=list(HealthCheck))
DEEP = settings(max_examples=10_000, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("data", BYTES)
def test_the_undamaged_models_load_and_run_through_the_passes(data: bytes) -> None:
    graph = run(load_bytes(data), PORTABLE, check=True)
    bound = bind(graph, {n: _concrete(graph, n) for n in graph.inputs})
    done = run(bound, DEVICE, CPU, check=True)
    assert all(v.is_static and v.dtype is not DType.STRING for v in done.values.values())


@QUICK
@given(damaged_bytes())
def test_damaged_bytes(data: bytes) -> None:
    survive(data)


@QUICK
@given(damaged_models())
def test_damaged_models(data: bytes) -> None:
    survive(data)


@QUICK
@given(st.binary(max_size=400))
def test_random_bytes(data: bytes) -> None:
    with pytest.raises(RekindleError):
        load_bytes(data)


@pytest.mark.slow
@DEEP
@given(damaged_bytes())
def test_damaged_bytes_at_length(data: bytes) -> None:
    survive(data)


@pytest.mark.slow
@DEEP
@given(damaged_models())
def test_damaged_models_at_length(data: bytes) -> None:
    survive(data)
