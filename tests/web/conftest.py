"""A server with its page, and photos to show it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from colours import put_colours
from PIL import Image
from serving import Running

from rekindle.serve import Settings
from rekindle.web import pages


@pytest.fixture(scope="session")
def begin() -> Iterator[Callable[..., Running]]:
    """Start servers with pages; they end with the session."""
    running: list[Running] = []

    def start(repository: Path, language: str | None = None, **options: Any) -> Running:
        chosen: dict[str, Any] = {
            "http_port": 0, "grpc_port": 0, "isolation": "thread", "provider": "onnxruntime",
            "threads": 1, "allow_model_control": True,
        }  # fmt: skip
        settings = Settings(repository, **(chosen | options))
        running.append(Running(settings, [pages(language)]))
        return running[-1]

    if importlib.util.find_spec("gradio") is None:
        pytest.skip("gradio is not installed")
    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="session")
def server(begin: Callable[..., Running], repository: Path) -> Running:
    """As a lab would run it that trusts its readers."""
    return begin(repository)


@pytest.fixture(scope="session")
def strict(begin: Callable[..., Running], repository: Path) -> Running:
    """In Spanish, without model control, for small photos."""
    return begin(repository, "es", allow_model_control=False, max_request_bytes=50_000)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    put_colours(root)
    put_colours(root, "tints")
    return root


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`green.png`, `blue.png`, and `bad.png`, which is no picture."""
    folder = tmp_path_factory.mktemp("photos")
    Image.new("RGB", (64, 48), (3, 222, 0)).save(folder / "green.png")
    Image.new("RGB", (64, 48), (9, 0, 255)).save(folder / "blue.png")
    (folder / "bad.png").write_bytes(b"no picture at all")
    return folder
