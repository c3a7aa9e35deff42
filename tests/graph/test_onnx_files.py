"""ONNX files on disk: weights in files beside the model, and what `save` writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto
from small_models import graph_of, model, normal, onnx_runtime

from rekindle._errors import ModelError, UsageError
from rekindle.graph.ir import OWN_DOMAIN, Node
from rekindle.graph.onnx_io import load, load_bytes, save


def _external(folder: Path, location: str = "weights.bin", **entries: str) -> Path:
    """A model whose weights w (2, 3) are outside, and the file they are in."""
    weights = np.arange(8, dtype="float32")
    (folder / "weights.bin").write_bytes(weights.tobytes())
    proto = model("(float[N,2] x) => (float[N,3] y) { y = MatMul(x, w) }")
    tensor = proto.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[2, 3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_is_read_from_the_models_folder(tmp_path: Path) -> None:
    graph = load(_external(tmp_path, offset="8", length="24"))
    np.testing.assert_array_equal(graph.initializers["w"], np.arange(2, 8).reshape(2, 3))
    assert load(_external(tmp_path)).initializers["w"][1, 2] == 5


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"location": "/etc/passwd"}, "outside the model's folder"),
        ({"location": "../weights.bin"}, "outside the model's folder"),
        ({"location": "a/../../weights.bin"}, "outside the model's folder"),
        ({"location": "..\\weights.bin"}, "outside the model's folder"),
        ({"location": "C:\\weights.bin"}, "outside the model's folder"),
        ({"location": ""}, "outside the model's folder"),
        ({"location": "link.bin"}, "outside the model's folder"),
        ({"location": "loop.bin"}, "impossible file name|not a file"),
        ({"location": "nul\0.bin"}, "impossible file name"),
        ({"location": "x" * 5000}, "impossible file name|not a file"),
        ({"location": "absent.bin"}, "not a file"),
        ({"location": "."}, "not a file"),
        ({"offset": "9", "length": "24"}, "bytes 9 to 33 of weights.bin, which has 32"),
        ({"offset": "99999999999999999999"}, "whole number"),
        ({"offset": "-8"}, "whole number"),
        ({"length": "20"}, "needs 24 bytes, but says length 20"),
    ],
)
def test_external_data_elsewhere_or_too_short_is_refused(
    tmp_path: Path, entries: dict[str, str], words: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(32))
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    (folder / "loop.bin").symlink_to(folder / "loop.bin")
    with pytest.raises(ModelError, match=words):
        load(_external(folder, **entries))


def test_external_data_without_a_folder(tmp_path: Path) -> None:
    data = _external(tmp_path).read_bytes()
    with pytest.raises(ModelError, match="without a folder"):
        load_bytes(data)


def test_saved_graphs_mean_the_same(tmp_path: Path) -> None:
    proto = model(
        "(float[N,3,8,8] x) => (float[N,4] y, int64[4] s)"
        '{ c = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)  r = Clip(c, "", six)'
        "  g = GlobalAveragePool(r)  f = Flatten(g)  y = Elu<alpha=0.5>(f)  s = Shape(x) }",
        w=normal(4, 3, 3, 3), six=np.array(6, "float32"),
    )  # fmt: skip
    first = load_bytes(proto.SerializeToString())
    save(first, tmp_path / "saved.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["saved.onnx"]
    written = onnx.load(tmp_path / "saved.onnx")
    onnx.checker.check_model(written, full_check=True)
    second = load(tmp_path / "saved.onnx")
    assert (second.nodes, second.values) == (first.nodes, first.values)
    feeds = {"x": normal(2, 3, 8, 8)}
    for name, array in onnx_runtime(proto, feeds).items():
        np.testing.assert_array_equal(onnx_runtime(written, feeds)[name], array)


def test_saving_keeps_tensors_strings_and_empty_lists(tmp_path: Path) -> None:
    proto = model(
        "(float[2] x) => (float[2] y, string[1] t, int64[0] e)"
        "{ y = Relu(x)  t = Constant<value_strings=['a']>()  e = Constant<value_ints=[0]>() }"
        .replace("'", '"')
    )  # fmt: skip
    proto.graph.node[2].attribute[0].CopyFrom(
        AttributeProto(name="value_ints", type=AttributeProto.INTS)
    )
    graph = load_bytes(proto.SerializeToString())
    graph.add_initializer("half", np.array([0.5], "float16"))
    graph.add_initializer("words", np.array(["b"], dtype=object))
    save(graph, tmp_path / "saved.onnx")
    again = load(tmp_path / "saved.onnx")
    assert again.nodes == graph.nodes
    assert again.initializers["half"].dtype == np.float16
    assert again.initializers["words"].tolist() == ["b"]


def test_outputs_that_an_operator_must_have_are_saved(tmp_path: Path) -> None:
    """A graph may name fewer outputs than the operator has; a file may not."""
    graph = graph_of("(float[5] x) => (float[2] y) { y, i = TopK(x, k) }", k=np.array([2]))
    graph.nodes = [replace(node, outputs=("y",)) for node in graph.nodes]
    save(graph, tmp_path / "saved.onnx")
    written = onnx.load(tmp_path / "saved.onnx")
    onnx.checker.check_model(written, full_check=True)
    x = np.array([1, 5, 3, 4, 2], np.float32)
    np.testing.assert_array_equal(onnx_runtime(written, {"x": x})["y"], [5, 4])


def test_large_weights_are_saved_beside_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rekindle.graph.onnx_io import _export

    monkeypatch.setattr(_export, "_MAX_INLINE_BYTES", 1000)
    graph = graph_of("(float[1,64] x) => (float[1,64] y) { y = MatMul(x, w) }", w=normal(64, 64))
    save(graph, tmp_path / "big.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big.onnx", "big.onnx.data"]
    np.testing.assert_array_equal(load(tmp_path / "big.onnx").initializers["w"], normal(64, 64))


def test_fused_graphs_and_unwritable_places_are_refused(tmp_path: Path) -> None:
    graph = graph_of("(float[3] x) => (float[3] y) { y = Relu(x) }")
    with pytest.raises(ModelError, match="cannot write"):
        save(graph, tmp_path / "absent" / "model.onnx")
    graph.nodes = [Node("Elementwise", ("x",), ("y",), {}, OWN_DOMAIN)]
    with pytest.raises(UsageError, match="rekindle::Elementwise"):
        save(graph, tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())
