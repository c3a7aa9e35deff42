"""Real photographs and real networks, where REKINDLE_TEST_DATA names a folder that has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rekindle import hub
from rekindle.hub.card import ModelCard, Preprocess, dumps
from rekindle.tasks.classify import classify

CENTRE = 128 / 255  # these networks were trained on (pixel - 128) / 128
MOBILENETS = (
    "mobilenet_v1_0.25_128_f32",
    "mobilenet_v1_0.5_160_f32",
    "mobilenet_v1_0.75_192_f32",
    "mobilenet_v2_1.0_224_f32",
)
SEEN = {
    "cat.png": "Egyptian cat",
    "bird.png": "chickadee",
    "dragonfly.png": "dragonfly",
    "hot_dog.jpg": "hotdog",
    "parrot.jpg": "macaw",
    "grace_hopper.png": "military uniform",
}
"""What MobileNetV2 sees, from the notes beside the data; owl and pets it gets wrong."""


def card(test_data: Path, stem: str, folder: Path) -> Path:
    """A card for one of the MobileNets; its labels file has a first line for `background`."""
    side = int(stem.split("_")[3])
    (folder / "labels.txt").write_bytes((test_data / "imagenet_labels_1001.txt").read_bytes())
    made = ModelCard(
        name="mobilenet",
        version="1",
        task="classify",
        licence="Apache-2.0",
        source="google-coral/edgetpu",
        labels_file="labels.txt",
        preprocess=Preprocess(
            "RGB", "stretch", (side, side), (side, side), "area", (CENTRE,) * 3, (CENTRE,) * 3
        ),
        decode="logits",
    )
    path = folder / "mobilenet.toml"
    path.write_text(dumps(made), encoding="utf-8")
    return path


def test_mobilenet_v2_names_what_is_there(test_data: Path, tmp_path: Path) -> None:
    stem = MOBILENETS[-1]
    results = classify(
        test_data / "photos",
        model=test_data / "onnx" / f"{stem}.onnx",
        card=card(test_data, stem, tmp_path),
        provider="onnxruntime",
        batch=4,
    )
    found = {r.path.name: r.labels[0].name for r in results}
    assert {name: found[name].partition(",")[0] for name in SEEN} == SEEN


@pytest.mark.opencl
@pytest.mark.parametrize("stem", MOBILENETS)
def test_opencl_gives_the_same_five_labels(stem: str, test_data: Path, tmp_path: Path) -> None:
    path, own = test_data / "onnx" / f"{stem}.onnx", card(test_data, stem, tmp_path)
    ours, theirs = (
        classify(test_data / "photos", model=path, card=own, provider=p, batch=5)
        for p in ("opencl", "onnxruntime")
    )
    assert len(ours) == len(theirs) == 10
    for a, b in zip(ours, theirs, strict=True):
        assert a.path == b.path
        assert [label.index for label in a.labels] == [label.index for label in b.labels], a.path
        for x, y in zip(a.labels, b.labels, strict=True):
            assert x.score == pytest.approx(y.score, rel=1e-3)


@pytest.mark.opencl
@pytest.mark.parametrize("provider", ["opencl", "onnxruntime"])
def test_the_bundled_network_names_animals(provider: str, test_data: Path) -> None:
    names = {"cat.png": "cat", "cat_720p.jpg": "cat", "bird.png": "bird", "owl.jpg": "bird"}
    names["parrot.jpg"] = "bird"
    assert hub.resolve("cifar10-resnet").card is not None
    results = classify([test_data / "photos" / n for n in names], provider=provider, batch=2)
    assert {r.path.name: r.labels[0].name for r in results} == names
