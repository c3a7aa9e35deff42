"""Tiny models and photos for the command line, and ways to run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from colours import CARD, network, put_colours
from PIL import Image
from typer.testing import CliRunner, Result

from rekindle.cli import app
from rekindle.hub import names
from rekindle.hub.card import ModelCard, dumps


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
    card = put_colours(tmp_path / "models", "cifar10-resnet")
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
