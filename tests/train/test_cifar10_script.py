"""The training script from end to end on a made-up data set; the card it writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from rekindle.hub.card import load_card  # noqa: E402
from rekindle.train import bundle, cifar10  # noqa: E402
from rekindle.train.evaluation import accuracy  # noqa: E402

pytestmark = pytest.mark.torch


def test_train_export_measure_and_resume(
    cifar10_folder: Callable[[int], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = cifar10_folder(300), tmp_path / "model"
    arguments = ["--data", str(folder), "--out", str(out), "--epochs", "1", "--seed", "5"]
    assert cifar10.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "1/1" in printed
    assert "CIFAR-10 test, JPEG q75, 4 images: " in printed
    first = (out / "model.onnx").read_bytes()
    log = json.loads((out / "training.json").read_text())
    assert [
        (p["config"]["seed"], p["config"]["epochs"], len(p["epochs"])) for p in log["phases"]
    ] == [(5, 1, 1), (6, 1, 1)]
    assert log["data"]["train_images"] == 288
    assert log["data"]["validation_images"] == 14
    assert [entry["images"] for entry in log["test"]] == [4, 2]
    assert log["test"][1]["correct"] == right_by_onnxruntime(out / "model.onnx")

    card = load_card(out / "card.toml")
    assert card.files[0].sha256 == hashlib.sha256(first).hexdigest()
    assert [m.value for m in card.measured] == [t["top1_accuracy"] for t in log["test"]]
    assert card.measured[0].dataset != card.measured[1].dataset

    assert cifar10.main([*arguments, "--resume"]) == 0
    assert (out / "model.onnx").read_bytes() == first
    assert json.loads((out / "training.json").read_text()) == log


def right_by_onnxruntime(path: Path) -> int:
    """Right answers on the made-up bit-exact test set: shades 200 and 201, labels 0 and 1."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    shades = np.array([200, 201], np.float32).reshape(2, 1, 1, 1) / 255
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (cifar10.MEAN, cifar10.STD))
    images = np.broadcast_to((shades - mean) / std, (2, 3, 32, 32)).astype(np.float32)
    (logits,) = session.run(None, {"image": images})
    return int((logits.argmax(1) == [0, 1]).sum())


def test_missing_data_ends_with_the_exit_code_of_the_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cifar10.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 8
    assert "cifar10_jpeg.npz does not exist" in capsys.readouterr().err
    assert cifar10.main(["--data", "x", "--out", str(tmp_path / "out"), "--epochs", "0"]) == 2
    assert not (tmp_path / "out").exists()


def test_a_card_keeps_awkward_text(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not looked into")
    labels = ('quoted "name"', "back\\slash", "Grüner Specht")
    third, half = (1 / 3, 0.1, 0.25), (0.5, 0.5, 0.5)
    facts = bundle.CardFacts("tiny", "3", "MIT", "made up; a # b", labels, 24, third, half)
    bundle.write_card(tmp_path, facts, {"a set": accuracy(1, 3)})
    card = load_card(tmp_path / "card.toml")
    assert (card.name, card.version, card.source) == ("tiny", "3", "made up; a # b")
    assert card.labels == labels
    assert card.inputs[0].spec.shape == ("N", 3, 24, 24)
    assert card.outputs[0].spec.shape == ("N", 3)
    assert card.preprocess is not None
    assert (card.preprocess.mean, card.preprocess.std) == (third, half)
    assert card.preprocess.size == (24, 24)
    assert card.decode == "logits"
    assert card.measured[0].value == pytest.approx(1 / 3, abs=1e-6)
    assert card.files[0].bytes == 15
