"""Checkpoints hold tensors and plain data, are written whole, and never run code when read."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from rekindle._errors import NotFoundError, UsageError  # noqa: E402
from rekindle.train.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402

pytestmark = pytest.mark.torch


class Bomb:
    """Its pickle creates a file when loaded without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return (Path.touch, (self.target,))


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "checkpoint.pt"
    state = {"weights": {"w": torch.arange(6.0).reshape(2, 3)}, "history": [{"epoch": 1}], "n": 3}
    save_checkpoint(path, {"seed": 1}, state)
    loaded = load_checkpoint(path, {"seed": 1})
    assert torch.equal(loaded["weights"].pop("w"), state["weights"]["w"])
    assert (loaded["history"], loaded["n"]) == ([{"epoch": 1}], 3)
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_failed_write_keeps_the_previous_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {}, {"n": 1})
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint(path, {}, {"n": lambda: None})
    assert load_checkpoint(path, {}) == {"n": 1}


def test_a_foreign_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    path, target = tmp_path / "checkpoint.pt", tmp_path / "touched"
    for content in (Bomb(target), {"format": "rekindle-checkpoint", "state": Bomb(target)}):
        torch.save(content, path)
        with pytest.raises(UsageError, match="not a checkpoint"):
            load_checkpoint(path, {})
        path.write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(UsageError, match="not a checkpoint"):
            load_checkpoint(path, {})
    assert not target.exists()


@pytest.mark.parametrize("size", [0, 1, 100, 700])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {}, {"n": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UsageError, match="not a checkpoint"):
        load_checkpoint(path, {})


def test_other_files_and_versions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": torch.zeros(3)}, path)
    with pytest.raises(UsageError, match="not a Rekindle checkpoint"):
        load_checkpoint(path, {})
    torch.save({"format": "rekindle-checkpoint", "version": 9}, path)
    with pytest.raises(UsageError, match="version 9"):
        load_checkpoint(path, {})
    with pytest.raises(NotFoundError, match="missing"):
        load_checkpoint(tmp_path / "missing.pt", {})
