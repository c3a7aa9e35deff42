"""What `auto` takes and says: environment, own measurements, devices, in this order."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_devices import Driver, devices, facts, llvmpipe, pocl, rusticl

from rekindle import open_session
from rekindle._errors import NotFoundError
from rekindle.runtime import selection
from rekindle.runtime.benchmark import benchmark
from tests.engine.graphs import classifier, write


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REKINDLE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("REKINDLE_PROVIDER", raising=False)
    monkeypatch.setattr(selection, "list_devices", lambda: ("a device",))
    return write(classifier(), tmp_path)


def test_a_device_is_taken_when_nothing_is_measured(path: Path) -> None:
    name, reason = selection.choose(path, "onnx")
    assert name == "opencl"
    assert "nothing is measured" in reason


@pytest.mark.parametrize(
    ("framework", "expected"), [("onnx", "onnxruntime"), ("torchscript", "torchscript")]
)
def test_without_opencl_it_falls_back_and_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch, framework: str, expected: str
) -> None:
    monkeypatch.setattr(selection, "list_devices", tuple)
    name, reason = selection.choose(path, framework)  # type: ignore[arg-type]
    assert name == expected
    assert "no OpenCL device was found" in reason


def test_the_measured_fastest_wins(path: Path) -> None:
    selection.remember(path, {"opencl": 5.0, "onnxruntime": 3.0})
    name, reason = selection.choose(path, "onnx")
    assert name == "onnxruntime"
    assert "onnxruntime 3.00 ms" in reason
    selection.remember(path, {"opencl": 1.0})
    assert selection.choose(path, "onnx")[0] == "opencl"


def test_a_measurement_belongs_to_one_file(path: Path, tmp_path: Path) -> None:
    selection.remember(path, {"onnxruntime": 3.0})
    other = write(classifier(seed=1), tmp_path, "other.onnx")
    assert selection.choose(other, "onnx")[0] == "opencl"


def test_a_measured_device_that_is_gone_is_not_taken(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection.remember(path, {"opencl": 1.0, "onnxruntime": 3.0})
    monkeypatch.setattr(selection, "list_devices", tuple)
    assert selection.choose(path, "onnx")[0] == "onnxruntime"


@pytest.mark.parametrize(
    ("driver", "expected"),
    [(rusticl(facts()), "hybrid"), (pocl(), "opencl"), (rusticl(llvmpipe()), "opencl")],
    ids=["a card", "PoCL", "llvmpipe"],
)
def test_hybrid_needs_a_device_that_is_not_the_processor(
    path: Path, monkeypatch: pytest.MonkeyPatch, driver: Driver, expected: str
) -> None:
    (device,) = devices(driver)
    monkeypatch.setattr(selection, "select_device", lambda: device)
    selection.remember(path, {"opencl": 2.0, "onnxruntime": 3.0, "hybrid": 1.0})
    assert selection.choose(path, "onnx")[0] == expected


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"p50_ms": 3}', '{"p50_ms": {"opencl": "x"}}'])
def test_a_damaged_record_is_ignored(path: Path, damage: str) -> None:
    selection.remember(path, {"onnxruntime": 3.0})
    (record,) = (path.parent / "cache" / "measured").iterdir()
    record.write_text(damage)
    assert selection.choose(path, "onnx")[0] == "opencl"


def test_the_environment_decides_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REKINDLE_PROVIDER", "reference")
    with open_session(path) as session:
        assert session.placement.provider == "reference"
        assert "REKINDLE_PROVIDER" in session.placement.reason
    monkeypatch.setenv("REKINDLE_PROVIDER", "refrence")
    with pytest.raises(NotFoundError, match="did you mean reference"):
        open_session(path)


def test_a_benchmark_is_remembered_and_holds_what_was_measured(path: Path) -> None:
    report = benchmark(path, ["onnxruntime", "reference"], warmup=1, repeats=4)
    fast, slow = report.results
    assert (fast.provider, fast.runs, slow.runs) == ("onnxruntime", 4, 4)
    assert 0 < fast.p50_ms <= fast.p95_ms <= fast.p99_ms
    assert fast.throughput_s == pytest.approx(1e3 / fast.p50_ms)
    assert (fast.max_relative_difference, fast.argmax_agreement) == (0.0, 1.0)
    assert 0 < slow.max_relative_difference <= 1e-4
    chosen, _ = selection.choose(path, "onnx")
    assert chosen == min(report.results, key=lambda r: r.p50_ms).provider
