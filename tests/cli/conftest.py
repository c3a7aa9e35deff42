"""Tiny models and photos for the command line, and ways to run it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper
from PIL import Image
from typer.testing import CliRunner, Result

from rekindle._types import DType, TensorSpec
from rekindle.cli import app
from rekindle.hub import names
from rekindle.hub.card import CardFile, CardTensor, Measured, ModelCard, Preprocess, dumps

CARD = ModelCard(
    name="colours",
    version="1",
    task="classify",
    licence="MIT",
    source="a test",
    labels=("red", "green", "blue"),
    inputs=(CardTensor(TensorSpec("image", DType.FLOAT32, ("N", 3, 8, 8)), "NCHW"),),
    outputs=(CardTensor(TensorSpec("logits", DType.FLOAT32, ("N", 3))),),
    preprocess=Preprocess(
        "RGB", "stretch", (8, 8), (8, 8), "area", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    ),
    decode="logits",
    measured=(Measured("top-1 accuracy", "three colours", 0.9, (0.8, 0.95)),),
)


def network() -> bytes:
    """A convolution that keeps each channel, then its mean: which colour is there most?"""
    kernel = [float(i == j) for i in range(3) for j in range(3)]
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["same"], name="keep"),
        helper.make_node("Relu", ["same"], ["positive"], name="cut"),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"], name="mean"),
        helper.make_node("Flatten", ["pooled"], ["logits"], name="flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor("kernel", TensorProto.FLOAT, [3, 3, 1, 1], kernel)],
    )
    opset = [helper.make_opsetid("", 13)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    return data


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The tiny network as a loose file with its card beside it."""
    path = tmp_path / "colours.onnx"
    path.write_bytes(network())
    path.with_name("colours.card.toml").write_text(dumps(CARD), encoding="utf-8")
    return path


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The tiny network without a card."""
    path = tmp_path / "bare.onnx"
    path.write_bytes(network())
    return path


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """The tiny network in the place of the bundled classifier."""
    folder = tmp_path / "models" / "cifar10-resnet" / "1"
    folder.mkdir(parents=True)
    data = network()
    (folder / "model.onnx").write_bytes(data)
    file = CardFile("model.onnx", hashlib.sha256(data).hexdigest(), len(data))
    card = replace(CARD, name="cifar10-resnet", files=(file,))
    (folder / "card.toml").write_text(dumps(card), encoding="utf-8")
    monkeypatch.setattr(names, "BUNDLED", tmp_path / "models")
    return card


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in (("red", (250, 0, 9)), ("green", (3, 222, 0)), ("blue", (9, 0, 255))):
        Image.new("RGB", (16, 12), colour).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def rekindle() -> Callable[..., Result]:
    """The command line in this process, in a wide terminal: nothing is wrapped."""

    def run(*args: object) -> Result:
        # Workers of a parallel run inherit the width of the terminal that started them.
        return CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(a) for a in args])

    return run


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line as a process of its own, with more environment if wanted."""

    def run(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rekindle.cli", *map(str, args)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env=os.environ | environment,
        )

    return run


def document(result: Result | subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document on stdout; anything else there fails to parse."""
    parsed = json.loads(result.stdout)
    assert isinstance(parsed, dict)
    return parsed


@pytest.fixture(name="document")
def _document() -> Callable[..., dict[str, Any]]:
    return document
