"""`rekindle client` against a running server."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import Running
from typer.testing import Result

from rekindle.cli.client import _connection

Run = Callable[..., Result]


@pytest.fixture
def server(bundled: Any, tmp_path: Path) -> Iterator[Running]:
    """The tiny classifier, on a server."""
    from rekindle.serve import Settings

    running = Running(Settings(
        tmp_path / "models", http_port=0, grpc_port=0, isolation="thread",
        provider="onnxruntime", threads=1, allow_model_control=True,
    ))  # fmt: skip
    yield running
    running.stop()


@pytest.fixture(params=["http", "grpc"])
def url(server: Running, request: pytest.FixtureRequest) -> str:
    return f"{request.param}://{server.http if request.param == 'http' else server.grpc}"


def test_health_and_models(url: str, rekindle: Run, document: Any) -> None:
    result = rekindle("client", "health", "--url", url)
    assert (result.exit_code, f"{url} is ready" in result.stdout) == (0, True)
    assert document(rekindle("client", "health", "-u", url, "--json"))["ready"] is True
    found = document(rekindle("client", "models", "-u", url, "--json"))
    assert [(m["name"], m["state"]) for m in found["models"]] == [("cifar10-resnet", "READY")]
    assert "READY" in rekindle("client", "models", "-u", url).stdout


def test_infer_sends_a_file_and_saves_the_answer(
    url: str, rekindle: Run, document: Any, tmp_path: Path
) -> None:
    photo = np.linspace(0, 1, 2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
    np.save(tmp_path / "photo.npy", photo)
    saved = tmp_path / "out.npz"
    result = rekindle(
        "client", "infer", "cifar10-resnet", "--input", f"image={tmp_path / 'photo.npy'}",
        "--output", saved, "-u", url,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(np.load(saved)["logits"], photo.mean(axis=(2, 3)), rtol=1e-5)
    facts = document(
        rekindle("client", "infer", "cifar10-resnet", "-i", "random", "--shape", "N=3",
                 "-u", url, "--json")
    )  # fmt: skip
    assert facts["outputs"][0]["shape"] == [3, 3]
    assert facts["version"] == "1"


def test_classify_names_each_photo_and_goes_on_after_a_bad_one(
    server: Running, rekindle: Run, document: Any, photos: Path
) -> None:
    (photos / "not.png").write_bytes(b"no picture")
    url = f"http://{server.http}"
    result = rekindle("client", "classify", photos, "-u", url, "--json")
    assert result.exit_code == 5
    found = {Path(p["photo"]).stem: p for p in document(result)["photos"]}
    assert [found[c]["labels"][0]["name"] for c in ("red", "green", "blue")] == [
        "red", "green", "blue",
    ]  # fmt: skip
    assert "not a picture" in found["not"]["error"]
    shown = rekindle("client", "classify", photos, "-u", url)
    assert "not a picture" in shown.stdout
    alone = rekindle("client", "classify", photos / "not.png", "-u", url)
    assert (alone.exit_code, alone.stdout) == (5, "")


def test_load_and_unload(url: str, rekindle: Run) -> None:
    assert "is unloaded at" in rekindle("client", "unload", "cifar10-resnet", "-u", url).stdout
    gone = rekindle("client", "unload", "cifar10-resnet", "-u", url)
    assert (gone.exit_code, "is unloaded" in gone.stderr) == (8, True)
    assert "is loaded at" in rekindle("client", "load", "cifar10-resnet", "-u", url).stdout


def test_a_server_that_is_not_ready_ends_with_10(server: Running, rekindle: Run) -> None:
    server.plane.draining = True
    result = rekindle("client", "health", "-u", f"http://{server.http}")
    server.plane.draining = False
    assert (result.exit_code, "not ready: draining" in result.stdout) == (10, True)


def test_the_key_comes_from_the_environment(rekindle: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REKINDLE_API_KEY", "two\nlines")
    result = rekindle("client", "models")
    assert (result.exit_code, "no key has" in result.stderr) == (2, True)
    assert "two" not in result.output


def test_a_missing_extra_names_the_command(rekindle: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connection.importlib.util, "find_spec", lambda name: None)
    result = rekindle("client", "models")
    assert (result.exit_code, "pip install 'rekindle[client]'" in result.output) == (3, True)
    assert importlib.util.find_spec("urllib3") is None
