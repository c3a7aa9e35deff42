"""The classifier in the package is what its card and its training log say it is."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import rekindle
from rekindle.hub.card import ModelCard, load_card

FOLDER = Path(rekindle.__file__).parent / "hub" / "models" / "cifar10-resnet" / "1"
GOALS = {"JPEG": 0.88, "bit-exact": 0.90}
SIZES = {"JPEG": 10_000, "bit-exact": 932}


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return load_card(FOLDER / "card.toml")


@pytest.fixture(scope="module")
def log() -> dict[str, Any]:
    return json.loads((FOLDER / "training.json").read_text(encoding="utf-8"))


def test_the_file_is_the_one_the_card_names(card: ModelCard) -> None:
    content = (FOLDER / "model.onnx").read_bytes()
    (entry,) = card.files
    assert entry.path == "model.onnx"
    assert entry.sha256 == hashlib.sha256(content).hexdigest()
    assert entry.bytes == len(content) <= 1_500_000


def test_the_model_is_valid_and_fits_the_card(card: ModelCard) -> None:
    model = onnx.load(FOLDER / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    for tensor, value in (
        (card.inputs[0], model.graph.input),
        (card.outputs[0], model.graph.output),
    ):
        (found,) = value
        dims = [d.dim_param or d.dim_value for d in found.type.tensor_type.shape.dim]
        assert (found.name, dims) == (tensor.spec.name, list(tensor.spec.shape))
    weights = sum(int(np.prod(w.dims)) for w in model.graph.initializer)
    assert 4 * weights > 0.95 * card.files[0].bytes
    assert not any(node.doc_string for node in model.graph.node)


def test_the_figures_reach_the_goals_and_agree_with_the_log(
    card: ModelCard, log: dict[str, Any]
) -> None:
    assert len(card.measured) == len(log["test"]) == 2
    for measured, entry in zip(card.measured, log["test"], strict=True):
        (kind,) = (name for name in GOALS if name in entry["dataset"])
        assert measured.dataset == entry["dataset"]
        assert measured.value == pytest.approx(entry["correct"] / entry["images"], abs=1e-6)
        assert entry["images"] == SIZES[kind]
        assert entry["top1_accuracy"] >= GOALS[kind]
        low, high = entry["interval_95"]
        assert low < entry["top1_accuracy"] < high
        assert measured.interval == pytest.approx((low, high), abs=1e-6)


def test_the_log_tells_how_it_was_trained(log: dict[str, Any]) -> None:
    assert len(log["phases"]) == 2
    for phase in log["phases"]:
        epochs = phase["epochs"]
        assert [e["epoch"] for e in epochs] == list(range(1, phase["config"]["epochs"] + 1))
        best = max(epochs, key=lambda e: e["validation_accuracy"])
        assert phase["best_epoch"] == best["epoch"]
        assert phase["best_validation_accuracy"] == best["validation_accuracy"]
        assert phase["wall_seconds"] == pytest.approx(sum(e["seconds"] for e in epochs), abs=0.1)
    assert log["export_max_relative_difference"] < 1e-4


@pytest.mark.slow
def test_the_recorded_figures_can_be_measured_again(test_data: Path, log: dict[str, Any]) -> None:
    session = onnxruntime.InferenceSession(
        FOLDER / "model.onnx", providers=["CPUExecutionProvider"]
    )
    for entry, (images, labels) in zip(log["test"], sets_of(test_data), strict=True):
        correct = 0
        for start in range(0, len(labels), 500):
            part = images[start : start + 500].astype(np.float32) / 255
            part = (part - [0.4914, 0.4822, 0.4465]) / [0.2470, 0.2435, 0.2616]
            feed = np.ascontiguousarray(part.transpose(0, 3, 1, 2), np.float32)
            (logits,) = session.run(["logits"], {"image": feed})
            correct += int((logits.argmax(1) == labels[start : start + 500]).sum())
        # Another processor may round differently: images on the edge may change sides.
        assert abs(correct - entry["correct"]) <= 1 + 0.0005 * len(labels)


def sets_of(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    jpeg, exact = np.load(folder / "cifar10_jpeg.npz"), np.load(folder / "cifar10_lossless.npz")
    blob, offsets = jpeg["test_blob"].tobytes(), jpeg["test_offsets"]
    images = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(blob[offsets[i] : offsets[i + 1]])).convert("RGB"))
            for i in range(len(offsets) - 1)
        ]
    )
    return [(images, jpeg["y_test"]), (exact["x_test"], exact["y_test"])]
