"""The framework is told from a file's content; what is no model is refused by name."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rekindle._errors import ModelError, NotFoundError, RekindleError
from rekindle.runtime.framework import detect
from tests.engine.graphs import classifier


def archive(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members:
            file.writestr(name, data)
    return buffer.getvalue()


class Bomb:
    def __reduce__(self) -> object:
        return (Path("/tmp/rekindle-bomb").touch, ())


@pytest.mark.parametrize(
    ("content", "framework"),
    [
        (classifier().SerializeToString(), "onnx"),
        (archive(("m/constants.pkl", b""), ("m/code/__torch__.py", b"")), "torchscript"),
        (archive(("m/archive_format", b"pt2"), ("m/models/model.json", b"{}")), "torch.export"),
    ],
    ids=["onnx", "torchscript", "torch.export"],
)
@pytest.mark.parametrize("name", ["model.onnx", "model.pt", "model"])
def test_content_decides_whatever_the_name(
    tmp_path: Path, content: bytes, framework: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert detect(path) == framework


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (archive(("readme.txt", b"hello")), "holds no model"),
        (archive(("a", b"x" * 100))[:-30], "damaged archive"),
        (b"\x1c\0\0\0TFL3" + bytes(100), "TensorFlow Lite"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"GGUF" + bytes(100), "GGUF"),
        ((50).to_bytes(8, "little") + b'{"a":1}' + bytes(50), "safetensors"),
        (b"\x7fELF" + bytes(100), "a program"),
        (pickle.dumps({"w": [1.0, 2.0]}), "weights only"),
        (pickle.dumps(Bomb()), "would run code"),
        (pickle.dumps(np.ones(3)), "would run code"),
        (archive(("m/data.pkl", pickle.dumps(Bomb()))), "would run code"),
        (archive(("m/data.pkl", pickle.dumps({"w": 1}))), "weights only"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_what_is_no_model_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=says):
        detect(path)
    assert not Path("/tmp/rekindle-bomb").exists()


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="folder"):
        detect(tmp_path)
    with pytest.raises(NotFoundError, match="no model file"):
        detect(tmp_path / "nothing.onnx")


@settings(max_examples=500)
@example(b"\x80", b"")
@given(st.binary(max_size=200), st.sampled_from([b"", b"PK\x03\x04", b"\x80\x04", b"\x80\x02}"]))
def test_any_bytes_give_an_answer_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, head: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "model"
    path.write_bytes(head + data)
    with contextlib.suppress(RekindleError):
        assert detect(path) in ("onnx", "torchscript", "torch.export")
