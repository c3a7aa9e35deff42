"""ONNX files in and out: what is read, and what is refused with which words."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from small_models import compute, counts, graph_of, model, normal, onnx_runtime

from rekindle._errors import (
    ModelError,
    NotFoundError,
    RekindleError,
    UnsupportedOperatorError,
)
from rekindle._types import DType, TensorSpec
from rekindle.graph.ir import OWN_DOMAIN
from rekindle.graph.onnx_io import _complete, load, load_bytes

RELU = "(float[N,3] x) => (float[N,3] y) { y = Relu(x) }"


def refused(proto: ModelProto, pattern: str, kind: type[RekindleError] = ModelError) -> None:
    with pytest.raises(kind, match=pattern):
        load_bytes(proto.SerializeToString())


def test_a_model_has_specs_nodes_and_types() -> None:
    graph = graph_of(
        "(float[batch,4] x, int64[2] k) => (float[batch,3] y)"
        "{ g = Gemm<alpha=0.5, transB=1>(x, w)  y = Relu(g) }",
        w=normal(3, 4),
    )
    assert graph.input_specs() == (
        TensorSpec("x", DType.FLOAT32, ("batch", 4)),
        TensorSpec("k", DType.INT64, (2,)),
    )
    assert graph.output_specs() == (TensorSpec("y", DType.FLOAT32, ("batch", 3)),)
    assert graph.values["g"].shape == ("batch", 3)
    assert graph.nodes[0].attrs == {"alpha": 0.5, "transB": 1}
    assert graph.opsets[""] == 17


def test_attributes_become_plain_data() -> None:
    proto = model(RELU)
    node = proto.graph.node[0]
    node.domain = "strange"
    proto.opset_import.append(helper.make_opsetid("strange", 1))
    values = {
        "i": 3, "f": 0.5, "s": "text", "ints": [1, 2], "floats": [0.5], "strings": ["a", "b"],
        "t": numpy_helper.from_array(np.arange(3), "t"),
        "ts": [numpy_helper.from_array(np.zeros(2), "t")], "g": model(RELU).graph,
        "gs": [model(RELU).graph],
    }  # fmt: skip
    node.attribute.extend(helper.make_attribute(k, v) for k, v in values.items())
    graph = load_bytes(proto.SerializeToString(), allow_unknown=True)
    attrs = graph.nodes[0].attrs
    assert (attrs["i"], attrs["f"], attrs["s"]) == (3, 0.5, "text")
    assert (attrs["ints"], attrs["floats"], attrs["strings"]) == ((1, 2), (0.5,), ("a", "b"))
    assert attrs["t"].tolist() == [0, 1, 2]
    assert attrs["ts"][0].tolist() == [0, 0]
    assert attrs["g"].nodes[0].op_type == attrs["gs"][0].nodes[0].op_type == "Relu"


def test_a_default_domain_by_its_long_name() -> None:
    proto = model(RELU)
    proto.graph.node[0].domain = "ai.onnx"
    assert load_bytes(proto.SerializeToString()).nodes[0].qualified == "Relu"


def test_unnamed_dimensions_get_names_of_their_own() -> None:
    proto = model("(float[N,3] x, float[x_0,2] z) => (float[a,3] y) { y = Relu(x) }")
    proto.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    proto.graph.input[1].type.tensor_type.shape.dim[1].dim_value = -1
    graph = load_bytes(proto.SerializeToString())
    assert graph.values["x"].shape == ("x_0_", 3)
    assert graph.values["z"].shape == ("x_0", "z_1")
    assert graph.values["y"].shape == ("x_0_", 3)


def test_an_input_with_a_default_is_a_constant() -> None:
    proto = model("(float[2] x, float[2] w) => (float[2] y) { y = Add(x, w) }", ir=3, w=normal(2))
    assert load_bytes(proto.SerializeToString()).inputs == ("x",)


def test_onnx_follows_symbols_where_our_operators_cannot() -> None:
    graph = graph_of(
        "(float[N,2,6] x) => (float[a,b] y)"
        "{ s = Shape(x)  n = Gather<axis=0>(s, zero)  u = Unsqueeze(n, axes)"
        "  t = Concat<axis=0>(u, minus)  r = Reshape(x, t)  y = Relu(r) }",
        zero=np.array(0), axes=np.array([0]), minus=np.array([12]),
    )  # fmt: skip
    assert graph.values["y"].shape == ("N", 12)


def test_without_onnxs_own_inference_only_names_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **options: object) -> None:
        raise RuntimeError("shape inference failed")

    body = "(float[N] x) => (int64[1,k] y) { a = NonZero(x)  y = Identity(a) }"
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", fails)
    assert graph_of(body).values["a"].shape == (1, "a.1")
    monkeypatch.undo()
    monkeypatch.setattr(_complete, "_MAX_BYTES", 1)
    assert graph_of(body).values["a"].shape == (1, "a.1")


ELEMENTS = [
    ("float32", TensorProto.FLOAT, "float_data"), ("float64", TensorProto.DOUBLE, "double_data"),
    ("float16", TensorProto.FLOAT16, "int32_data"), ("int8", TensorProto.INT8, "int32_data"),
    ("uint8", TensorProto.UINT8, "int32_data"), ("int16", TensorProto.INT16, "int32_data"),
    ("uint16", TensorProto.UINT16, "int32_data"), ("int32", TensorProto.INT32, "int32_data"),
    ("uint32", TensorProto.UINT32, "uint64_data"), ("int64", TensorProto.INT64, "int64_data"),
    ("uint64", TensorProto.UINT64, "uint64_data"), ("bool", TensorProto.BOOL, "int32_data"),
]  # fmt: skip


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(("dtype", "element", "field"), ELEMENTS)
def test_tensors_of_every_dtype(dtype: str, element: int, field: str, raw: bool) -> None:
    array = np.array([[0, 1, 100], [7, 3, 2]]).astype(dtype)
    if raw:
        tensor = numpy_helper.from_array(array, "c")
    else:
        tensor = helper.make_tensor("c", element, array.shape, array.flatten().tolist())
        assert len(getattr(tensor, field)) == 6
    proto = model(RELU)
    proto.graph.initializer.append(tensor)
    read = load_bytes(proto.SerializeToString()).initializers["c"]
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_bfloat16_and_strings() -> None:
    import ml_dtypes

    proto = model(RELU)
    numbers = np.array([1.5, -2.0, 3e38], dtype=ml_dtypes.bfloat16)
    proto.graph.initializer.append(numpy_helper.from_array(numbers, "b"))
    bits = numbers.view(np.uint16).astype(np.int32).tolist()
    typed = TensorProto(name="t", data_type=TensorProto.BFLOAT16, dims=[3], int32_data=bits)
    proto.graph.initializer.append(typed)
    proto.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [1, 2], ["a", "é"]))
    read = load_bytes(proto.SerializeToString()).initializers
    np.testing.assert_array_equal(read["b"], numbers)
    np.testing.assert_array_equal(read["t"], numbers)
    assert read["s"].tolist() == [["a", "é"]]


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (_zip(), "zip archive"),
        (gzip.compress(b"model", mtime=0), "gzip"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(20), "TensorFlow Lite"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<!DOCTYPE html>", "web page"),
        (b"\xff" * 100, "not an ONNX model"),
        (b"hello, world", "not an ONNX model"),
        (model(RELU).SerializeToString()[:-5], "truncated"),
        (b"\x08\x08", "no ONNX graph"),
        (ModelProto().SerializeToString(), "empty"),
    ],
)
def test_what_is_no_model_is_named(data: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_bytes(data)


def test_versions_out_of_range_name_both_figures() -> None:
    newest = onnx.defs.onnx_opset_version()
    refused(model(RELU, opset=newest + 1), f"opset {newest + 1} .* 7 to {newest}")
    refused(model(RELU, opset=6), f"opset 6 .* 7 to {newest}")
    refused(model(RELU, ir=2), f"IR version 2 .* 3 to {int(onnx.IR_VERSION)}")
    refused(model(RELU, ir=99), "IR version 99")
    load_bytes(model(RELU, opset=7).SerializeToString())
    load_bytes(model(RELU, opset=newest).SerializeToString())


def test_a_domain_without_or_with_two_versions() -> None:
    proto = model(RELU)
    del proto.opset_import[:]
    refused(proto, "domain 'ai.onnx'")
    proto.opset_import.extend([helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx", 18)])
    refused(proto, "versions 17 and 18")


def test_unknown_operators_are_counted_by_name() -> None:
    proto = model("(float[2] x) => (float[2] y) { a = Relu(x)  b = Relu(a)  y = Relu(b) }")
    proto.graph.node[0].op_type = proto.graph.node[1].op_type = "Frobnicate"
    proto.graph.node[2].domain = "com.example"
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    refused(proto, r"Frobnicate \(2x\), com.example::Relu \(1x\)", UnsupportedOperatorError)
    graph = load_bytes(proto.SerializeToString(), allow_unknown=True)
    assert counts(graph) == {"Frobnicate": 2, "com.example::Relu": 1}
    assert graph.output_specs()[0].shape == (2,)
    assert "a" not in graph.values


def test_our_own_domain_is_not_read_from_files() -> None:
    proto = model(RELU)
    proto.graph.node[0].domain = OWN_DOMAIN
    proto.graph.node[0].op_type = "Elementwise"
    proto.opset_import.append(helper.make_opsetid(OWN_DOMAIN, 1))
    refused(proto, "rekindle::Elementwise", UnsupportedOperatorError)


def test_nodes_out_of_order_are_sorted() -> None:
    proto = model("(float[2] x) => (float[2] y) { y = Neg(b)  b = Exp(a)  a = Relu(x) }")
    graph = load_bytes(proto.SerializeToString())
    assert [n.op_type for n in graph.nodes] == ["Relu", "Exp", "Neg"]
    np.testing.assert_allclose(compute(graph, {"x": normal(2)})["y"], -np.exp(normal(2).clip(0)))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("(float[2] x) => (float[2] y) { y = Add(x, b)  b = Exp(y) }", "cycle: (Add|Exp).* <- "),
        ("(float[2] x) => (float[2] y) { y = Add(x, y) }", "cycle: Add -> y"),
        ("(float[2] x) => (float[2] y) { y = Add(x, missing) }", "reads 'missing'"),
        ("(float[2] x) => (float[2] y) { z = Relu(x) }", "output 'y'"),
        ("(float[2] x) => (float[2] y) { y = Relu(x)  y = Exp(x) }", "'y' twice"),
        ("(float[2] x) => (float[2] y) { x = Relu(x)  y = Exp(x) }", "'x' twice"),
        ("(float[2] x, float[2] x) => (float[2] y) { y = Relu(x) }", "input 'x' is there twice"),
        ("(float[2] x) => (float[2] y, float[2] y) { y = Relu(x) }", "output 'y' is there twice"),
        ("(float[2] x) => () { y = Relu(x) }", "no outputs"),
        ("(float[2] x) => (float[2] y) { y = Relu(x, x) }", "inputs: 2 given, expected 1 to 1"),
        ("(float[2] x) => (float[2] y) { y = Add(x) }", "inputs: 1 given, expected 2"),
        ('(float[2] x) => (float[2] y) { y = Add(x, "") }', "input 1 .* is required"),
        ("(float[2] x) => (float[2] y) { y, z = Relu(x) }", "outputs: 2 given"),
        ("(float[2] x) => (float[2] y) { y = Relu<alpha=1.0>(x) }", "no attribute 'alpha'"),
        ("(float[2] x) => (float[2] y) { y = Elu<alpha=1>(x) }", "'alpha' is INT, expected FLOAT"),
        ("(float[2] x) => (float[2] y) { y = Cast(x) }", "lacks its attribute 'to'"),
        ("(float[2] x) => (float[2] y) { y = Upsample(x, x) }", "withdrawn"),
        ("(float[2] x) => (int64[2] y) { y = Relu(x) }", "declared as int64"),
        ("(float[2] x) => (float[2] y) { y = Add(x, three) }", "broadcast"),
        ("(seq(float[2]) x) => (float[2] y) { y = ConcatFromSequence<axis=0>(x) }", "a sequence"),
        ("(optional(float[2]) x) => (float[2] y) { y = OptionalGetElement(x) }", "an? optional"),
        ("(complex64[2] x) => (complex64[2] y) { y = Relu(x) }", "COMPLEX64"),
    ],
)
def test_faults_of_a_graph_are_named(body: str, words: str) -> None:
    refused(model(body, three=normal(3)), words)


def test_attributes_given_twice_or_from_nowhere() -> None:
    proto = model("(float[2] x) => (float[2] y) { y = Elu<alpha=1.0>(x) }")
    proto.graph.node[0].attribute.append(helper.make_attribute("alpha", 2.0))
    refused(proto, "'alpha' twice")
    del proto.graph.node[0].attribute[1]
    proto.graph.node[0].attribute[0].ref_attr_name = "beta"
    refused(proto, "outside of a function")


def test_sparse_and_nameless_initializers() -> None:
    proto = model(RELU, c=normal(2))
    proto.graph.initializer[0].name = ""
    refused(proto, "nameless")
    proto = model(RELU, c=normal(2))
    proto.graph.initializer.append(proto.graph.initializer[0])
    refused(proto, "'c' is there twice")
    proto = model(RELU)
    proto.graph.sparse_initializer.add()
    refused(proto, "sparse")


def _tensor(**changes: object) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, "float32"), "c")
    for key, value in changes.items():
        if key == "dims":
            tensor.dims[:] = value  # type: ignore[assignment, index]
        else:
            setattr(tensor, key, value)
    return tensor


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (_tensor(dims=[5]), "needs 20 bytes, but has 16"),
        (_tensor(dims=[1 << 40]), "needs 4398046511104 bytes"),
        (_tensor(dims=[1 << 40, 1 << 40]), "bytes, but has 16"),
        (_tensor(dims=[-4]), "impossible dimensions"),
        (_tensor(dims=[1] * 40), "impossible dimensions"),
        (_tensor(dims=[0, 1 << 62, 1 << 62]), "impossible dimensions|but has 16"),
        (_tensor(data_type=0), "UNDEFINED"),
        (_tensor(data_type=TensorProto.FLOAT8E4M3FN), "FLOAT8E4M3FN"),
        (_tensor(data_type=99), "number 99"),
        (_tensor(raw_data=b"123"), "has 3 in the file"),
        (TensorProto(name="c", data_type=1, dims=[3], float_data=[1, 2]), "3 elements, but 2"),
        (TensorProto(name="c", data_type=8, dims=[3], string_data=[b"a"]), "3 elements, but 1"),
        (TensorProto(name="c", data_type=8, dims=[1], string_data=[b"\xff"]), "not valid UTF-8"),
        (TensorProto(name="c", data_type=10, dims=[1 << 50]), "but 0 in the file"),
    ],
)
def test_tensors_whose_data_do_not_fit(tensor: TensorProto, words: str) -> None:
    proto = model(RELU)
    proto.graph.initializer.append(tensor)
    refused(proto, words)


def test_an_empty_tensor_with_absurd_dimensions() -> None:
    proto = model(RELU)
    proto.graph.initializer.append(_tensor(dims=[0, 1 << 61, 1 << 61], raw_data=b""))
    refused(proto, "impossible dimensions")


def test_names_must_be_text() -> None:
    data = model(RELU).SerializeToString().replace(b"Relu", b"\xff\xfe\xff\xfe")
    with pytest.raises(ModelError, match="UTF-8"):
        load_bytes(data)


def test_a_missing_or_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no such model file.*absent\.onnx"):
        load(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="cannot read"):
        load(tmp_path)
    with pytest.raises(ModelError, match="cannot read"):
        load(Path("nul\0.onnx"))
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"^bad\.onnx: "):
        load(tmp_path / "bad.onnx")


FUNCTIONS = """
<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
test (float[2] x) => (float[2] y) { a = local.twice(x)  y = local.scaled<factor=3.0>(a) }
<domain: "local", opset_import: ["" : 17, "local" : 1]>
twice (v) => (w) { h = local.half(v)  q = Mul(h, h)  w = Add(q, v) }
<domain: "local", opset_import: ["" : 17]>
half (v) => (w) { c = Constant<value = float {0.5}>()  w = Mul(v, c) }
<domain: "local", opset_import: ["" : 17]>
scaled <factor> (v) => (w) { c = Constant<value_float: float = @factor>()  w = Mul(v, c) }
"""


def test_local_functions_are_inlined() -> None:
    proto = onnx.parser.parse_model(FUNCTIONS)
    graph = load_bytes(proto.SerializeToString())
    assert counts(graph) == {"Constant": 2, "Mul": 3, "Add": 1}
    x = normal(2)
    np.testing.assert_allclose(compute(graph, {"x": x})["y"], onnx_runtime(proto, {"x": x})["y"])


def test_functions_without_end_are_refused() -> None:
    proto = onnx.parser.parse_model(FUNCTIONS)
    proto.functions[1].node[1].op_type = "twice"
    proto.functions[1].node[1].domain = "local"
    proto.functions[1].node[1].input.pop()
    refused(proto, "calls itself")
    proto = model("(float[2] x) => (float[2] y) { y = Relu(x) }")
    proto.opset_import.append(helper.make_opsetid("local", 1))
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    for level in range(40):
        call = (f"f{level + 1}", "local") if level < 39 else ("Relu", "")
        nodes = [helper.make_node(call[0], [a], [b], domain=call[1]) for a, b in ("vw", "wu")]
        proto.functions.append(
            helper.make_function("local", f"f{level}", ["v"], ["u"], nodes, imports)
        )
    proto.graph.node[0].op_type, proto.graph.node[0].domain = "f0", "local"
    refused(proto, "more than 200000 nodes")


@pytest.mark.slow
def test_real_models_load(test_data: Path) -> None:
    paths = sorted((test_data / "onnx").glob("*.onnx"))
    assert paths
    for path in paths:
        graph = load(path)
        (output,) = graph.output_specs()
        assert output.shape[0] == "N", path
        assert all(v.shape is not None for v in graph.values.values()), path
