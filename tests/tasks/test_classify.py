"""Classification with a network whose answer is known: which colour a picture has most of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from rekindle._errors import CardError, ImageError, ModelError, NotFoundError, UsageError
from rekindle._types import DType, TensorSpec
from rekindle.hub.card import CardTensor, ModelCard, Preprocess, dumps
from rekindle.runtime import open_session
from rekindle.tasks.classify import Classifier, classify, find_photos, open_classifier

CARD = ModelCard(
    name="colours",
    version="1",
    task="classify",
    licence="MIT",
    source="a test",
    labels=("red", "green", "blue"),
    preprocess=Preprocess(
        "RGB", "stretch", (8, 8), (8, 8), "area", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    ),
    decode="logits",
)
COLOURS = {"red": (250, 10, 20), "green": (20, 200, 30), "blue": (5, 60, 190)}


def network(path: Path, batch: str | int = "N", scale: float = 1.0) -> Path:
    """Logits are the mean of each channel times `scale`."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Mul", ["flat", "scale"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])],
        [helper.make_tensor("scale", TensorProto.FLOAT, [1], [scale])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = network(tmp_path / "colours.onnx")
    path.with_name("colours.card.toml").write_text(dumps(CARD), encoding="utf-8")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, colour in COLOURS.items():
        Image.new("RGB", (20, 12), colour).save(folder / f"{name}.png")
    Image.new("RGB", (9, 31), COLOURS["green"]).save(folder / "more" / "green.JPG", "JPEG")
    (folder / "notes.txt").write_text("not a picture")
    (folder / "._red.png").write_bytes(b"a companion file of macOS")
    return folder


def expected(colour: tuple[int, ...]) -> np.ndarray:
    logits = (np.array(colour) / 255 - 0.5) / 0.25
    return np.exp(logits) / np.exp(logits).sum()


def test_one_photo_gets_softmax_scores_best_first(model: Path, photos: Path) -> None:
    (result,) = classify(photos / "blue.png", model=model, provider="onnxruntime")
    assert result.error is None
    assert result.path == photos / "blue.png"
    assert [label.name for label in result.labels] == ["blue", "green", "red"]
    assert [label.index for label in result.labels] == [2, 1, 0]
    scores = expected(COLOURS["blue"])
    np.testing.assert_allclose([s.score for s in result.labels], scores[[2, 1, 0]], rtol=1e-5)
    assert result.prepare_s > 0
    assert result.run_s > 0


def test_probabilities_are_taken_as_they_are(model: Path, photos: Path) -> None:
    card = replace(CARD, decode="probabilities")
    (result,) = classify(photos / "red.png", model=model, card=card, provider="onnxruntime")
    means = (np.array(COLOURS["red"]) / 255 - 0.5) / 0.25
    assert result.labels[0].score == pytest.approx(means[0], rel=1e-5)


def test_a_folder_is_walked_in_order(model: Path, photos: Path) -> None:
    names = [p.relative_to(photos).as_posix() for p in find_photos(photos)]
    assert names == ["blue.png", "green.png", "more/green.JPG", "red.png"]
    results = classify(photos, model=model, provider="onnxruntime", top=1)
    assert [r.labels[0].name for r in results] == ["blue", "green", "green", "red"]
    assert all(len(r.labels) == 1 for r in results)


@pytest.mark.parametrize("fixed", ["N", 1, 3])
@pytest.mark.parametrize("batch", [1, 2, 3, 64])
def test_batches_change_nothing(fixed: str | int, batch: int, photos: Path, tmp_path: Path) -> None:
    path = network(tmp_path / "net.onnx", fixed)
    named = [photos / "red.png", photos / "absent.png", photos / "blue.png", photos]
    results = classify(named, model=path, card=CARD, provider="onnxruntime", batch=batch)
    found = [r.labels[0].name if r.labels else None for r in results]
    assert found == ["red", None, "blue", "blue", "green", "green", "red"]
    np.testing.assert_allclose(results[0].labels[0].score, results[-1].labels[0].score)


def test_a_bad_photo_is_reported_and_the_rest_done(model: Path, photos: Path) -> None:
    (photos / "broken.png").write_bytes((photos / "red.png").read_bytes()[:60])
    results = classify(photos, model=model, provider="onnxruntime", batch=2)
    assert [r.path.name for r in results if r.error] == ["broken.png"]
    broken = next(r for r in results if r.error)
    assert isinstance(broken.error, ImageError)
    assert broken.labels == ()
    assert sum(bool(r.labels) for r in results) == 4


def test_results_come_as_they_are_ready(model: Path, photos: Path) -> None:
    with open_classifier(model, provider="onnxruntime") as classifier:
        stream = classifier.stream(find_photos([photos / "red.png", photos / "blue.png"]))
        assert next(stream).labels[0].name == "red"
        assert next(stream).labels[0].name == "blue"
        assert next(stream, None) is None


def test_large_logits_do_not_overflow(photos: Path, tmp_path: Path) -> None:
    path = network(tmp_path / "net.onnx", scale=1e4)
    (result,) = classify(photos / "green.png", model=path, card=CARD, provider="onnxruntime")
    assert [s.score for s in result.labels] == [1.0, 0.0, 0.0]


def test_scores_that_are_no_numbers_are_an_error_of_the_photo(photos: Path, tmp_path: Path) -> None:
    path = network(tmp_path / "net.onnx", scale=float("nan"))
    (result,) = classify(photos / "green.png", model=path, card=CARD, provider="onnxruntime")
    assert isinstance(result.error, ModelError)
    assert "NaN" in result.error.message


def test_channels_last_and_half_precision(photos: Path, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide"], ["logits"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "last",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT16, ["N", 8, 8, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
    )
    path = tmp_path / "last.onnx"
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    (result,) = classify(photos / "blue.png", model=path, card=CARD, provider="onnxruntime")
    scores = expected(COLOURS["blue"])
    np.testing.assert_allclose([s.score for s in result.labels], scores[[2, 1, 0]], rtol=2e-3)


def test_a_model_without_a_card(photos: Path, tmp_path: Path) -> None:
    path = network(tmp_path / "bare.onnx")
    with pytest.raises(CardError, match=r"no model card.*bare\.card\.toml beside it.*--card FILE"):
        classify(photos, model=path)
    card = tmp_path / "elsewhere.toml"
    card.write_text(dumps(CARD), encoding="utf-8")
    results = classify(photos, model=path, card=card, provider="onnxruntime")
    assert results[0].labels[0].name == "blue"


SPEC = TensorSpec("image", DType.FLOAT32, ("N", 3, 8, 8))


def with_size(side: int) -> ModelCard:
    assert CARD.preprocess is not None
    return replace(CARD, preprocess=replace(CARD.preprocess, size=(side,) * 2, crop=(side,) * 2))


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (replace(CARD, task="detect"), "task = 'detect'"),
        (replace(CARD, labels=(), decode=None), r"has no labels, no \[decode\]"),
        (replace(CARD, preprocess=None), r"has no \[preprocess\]"),
        (replace(CARD, labels=("red", "green")), "2 labels, but the model's output has 3 classes"),
        (with_size(9), r"float32\[N, 3, 9, 9\] \(NCHW\), but .* image: float32\[N, 3, 8, 8\]"),
        (
            replace(CARD, inputs=(CardTensor(replace(SPEC, name="picture"), "NCHW"),)),
            r"names the input 'picture'; the model has image: float32.*\[\[inputs\]\]",
        ),
        (
            replace(CARD, inputs=(CardTensor(SPEC, "NHWC"),)),
            r"float32\[N, 8, 8, 3\] \(NHWC\), but",
        ),
        (
            replace(CARD, outputs=(CardTensor(TensorSpec("scores", DType.FLOAT32, ("N", 3))),)),
            r"names the output 'scores'; the model has logits",
        ),
    ],
)
def test_a_card_that_does_not_fit_its_model(
    card: ModelCard, message: str, model: Path, photos: Path
) -> None:
    with (
        open_session(model, provider="onnxruntime") as session,
        pytest.raises(CardError, match=message),
    ):
        Classifier(session, card)


def test_a_width_known_only_after_a_run(photos: Path, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["logits"])],
        "wide",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", "K"])],
    )
    path = tmp_path / "wide.onnx"
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    with pytest.raises(CardError, match="3 labels, but the model's output has 192 classes"):
        classify(photos, model=path, card=CARD, provider="onnxruntime")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (lambda p: [], "no photo was named"),
        (lambda p: p / "more" / "empty", "holds no picture .*looked for .bmp"),
    ],
)
def test_nothing_to_classify(
    named: Callable[[Path], object], message: str, model: Path, photos: Path
) -> None:
    (photos / "more" / "empty").mkdir()
    with pytest.raises(NotFoundError, match=message):
        classify(named(photos), model=model)  # type: ignore[arg-type]


def test_senseless_numbers(model: Path, photos: Path) -> None:
    with pytest.raises(UsageError, match="batch = 0"):
        classify(photos, model=model, provider="onnxruntime", batch=0)
    with pytest.raises(UsageError, match="top = -1"):
        classify(photos, model=model, provider="onnxruntime", top=-1)
