"""Names and paths to model files: the card beside them, checks of content, near names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from rekindle import hub
from rekindle._errors import CardError, NotFoundError
from rekindle.hub import ModelCard, names
from rekindle.hub.card import CardFile, dumps

CONTENT = b"not really a network"
FILE = CardFile("model.onnx", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def card(name: str = "tiny", version: str = "1", *files: CardFile) -> ModelCard:
    return ModelCard(name, version, "classify", "MIT", "a test", files=files)


def make(folder: Path, model: ModelCard) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(CONTENT)
    (folder / "card.toml").write_text(dumps(model), encoding="utf-8")
    return folder


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for version in ("1", "2", "10"):
        make(tmp_path / "models" / "tiny" / version, card("tiny", version, FILE))
    make(tmp_path / "models" / "timid" / "1", card("timid", "1", FILE))
    monkeypatch.setattr(names, "BUNDLED", tmp_path / "models")
    return tmp_path / "models"


def test_a_loose_file_has_no_card(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(CONTENT)
    assert hub.resolve(tmp_path / "net.onnx") == hub.Resolved(tmp_path / "net.onnx", None)


def test_a_card_beside_a_loose_file(tmp_path: Path) -> None:
    (tmp_path / "net.v2.onnx").write_bytes(CONTENT)
    (tmp_path / "net.v2.card.toml").write_text(dumps(card()), encoding="utf-8")
    assert hub.resolve(str(tmp_path / "net.v2.onnx")).card == card()


def test_a_folder_and_the_file_in_it(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", card("tiny", "1", FILE))
    expected = hub.Resolved(folder / "model.onnx", card("tiny", "1", FILE))
    assert hub.resolve(folder) == expected
    assert hub.resolve(folder / "model.onnx") == expected
    (folder / "other.onnx").write_bytes(b"")
    assert hub.resolve(folder / "other.onnx").card is None


def test_the_newest_version_unless_another_is_asked_for(bundled: Path) -> None:
    assert hub.resolve("tiny").path == bundled / "tiny" / "10" / "model.onnx"
    assert hub.resolve("tiny@2").path == bundled / "tiny" / "2" / "model.onnx"
    with pytest.raises(NotFoundError, match=r"tiny has no revision '3' \(it has 1, 2, 10\)"):
        hub.resolve("tiny@3")


def test_a_folder_of_the_same_name_does_not_hide_a_bundled_model(
    bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "tiny", card("mine", "1", FILE))
    assert hub.resolve("tiny").path.is_relative_to(bundled)
    assert hub.resolve("./tiny").card == card("mine", "1", FILE)


def test_near_names(bundled: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"'tinny' is neither .*did you mean tiny"):
        hub.resolve("tinny")
    with pytest.raises(NotFoundError, match=r"models that come with Rekindle: timid, tiny"):
        hub.resolve("zebra")
    (tmp_path / "resnet18.onnx").write_bytes(CONTENT)
    with pytest.raises(NotFoundError, match=r"no such file \(did you mean .*resnet18\.onnx\?"):
        hub.resolve(tmp_path / "resnet_18.onnx")
    with pytest.raises(NotFoundError, match=r"no such file \(check the path"):
        hub.resolve(tmp_path / "absent" / "x.onnx")


@pytest.mark.parametrize("wrong", ["", "a\0b.onnx", "x" * 5000, "name@"])
def test_odd_names_are_not_found(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError):
        hub.resolve(wrong)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", card("tiny", "1", FILE))
    (folder / "model.onnx").write_bytes(CONTENT[::-1])
    with pytest.raises(CardError, match=r"model\.onnx has SHA-256 .* its card says"):
        hub.resolve(folder)
    (folder / "model.onnx").write_bytes(CONTENT + b"!")
    with pytest.raises(CardError, match=r"has 21 bytes; its card says 20"):
        hub.resolve(folder / "model.onnx")
    (folder / "model.onnx").unlink()
    with pytest.raises(NotFoundError, match=r"which the card of tiny lists, does not exist"):
        hub.resolve(folder)


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"a folder without a card\.toml"):
        hub.resolve(tmp_path)
    with pytest.raises(CardError, match=r"lists no files \(add \[\[files\]\]"):
        hub.resolve(make(tmp_path / "m", card()))


def test_every_bundled_model_is_listed_and_whole() -> None:
    for found in hub.list_models():
        assert found.card is not None
        assert hub.resolve(f"{found.card.name}@{found.card.version}") == found
        assert found.path.parent.parts[-2:] == (found.card.name, found.card.version)


def test_listing(bundled: Path) -> None:
    cards = [found.card for found in hub.list_models()]
    assert [(c.name, c.version) for c in cards if c] == [
        ("timid", "1"),
        ("tiny", "1"),
        ("tiny", "2"),
        ("tiny", "10"),
    ]
