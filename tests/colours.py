"""A tiny classifier of photos: red, green or blue?"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from onnx import TensorProto, helper

from rekindle._types import DType, TensorSpec
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


def put_colours(root: Path, name: str = "colours", **changes: object) -> ModelCard:
    """Write the classifier into a repository, with its card."""
    folder = root / name / "1"
    folder.mkdir(parents=True)
    data = network()
    (folder / "model.onnx").write_bytes(data)
    file = CardFile("model.onnx", hashlib.sha256(data).hexdigest(), len(data))
    card = replace(CARD, name=name, files=(file,), **changes)  # type: ignore[arg-type]
    (folder / "card.toml").write_text(dumps(card), encoding="utf-8")
    return card
