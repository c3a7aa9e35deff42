"""Servers for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Running, affine, mixing, put

from rekindle.serve import Settings


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """`affine` in one version, `mixing` in one."""
    root = tmp_path / "models"
    put(root, "affine", "1", affine())
    put(root, "mixing", "1", mixing())
    return root


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Start servers; they are stopped with the test."""
    running: list[Running] = []

    def begin(repository: Path, **options: Any) -> Running:
        chosen: dict[str, Any] = {
            "http_port": 0, "grpc_port": 0, "isolation": "thread", "provider": "onnxruntime",
            "threads": 1, "drain_s": 20.0,
        }  # fmt: skip
        running.append(Running(Settings(repository, **(chosen | options))))
        return running[-1]

    yield begin
    for server in running:
        server.stop()
