"""The speed benchmark: what it compares, what it refuses, how it counts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import speed
import speed_cell
from speed_models import find


def test_difference_is_relative_to_the_largest_value() -> None:
    expected = [np.array([[4.0, -8.0]]), np.array([1.0])]
    found = [np.array([4.0, -7.0]), np.array([1.25])]
    assert speed_cell.difference(found, expected) == pytest.approx(0.25)


@pytest.mark.parametrize("found", [[], [np.zeros(3)], [np.array([np.nan, 0.0])]])
def test_what_does_not_correspond_differs_infinitely(found: list[Any]) -> None:
    assert speed_cell.difference(found, [np.zeros(2)]) == float("inf")


def test_disturbed_rounds_are_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([0.5, 0.0, 0.3, 0.01])
    times = iter([9.0, 1.0, 9.0, 3.0])

    def one_round(runners: Any, once_s: Any) -> speed_cell.Round:
        return speed_cell.Round({"a": [next(times)]}, next(shares))

    monkeypatch.setattr(speed_cell, "one_round", one_round)
    figures = speed_cell.measure({"a": list}, rounds=2, patience_s=60)["a"]
    assert figures["rounds_ms"] == [1000.0, 3000.0]
    assert figures["median_ms"] == 2000.0
    assert figures["disturbed"] == pytest.approx(0.005, abs=5e-4)


def test_without_calm_the_calmest_rounds_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([0.5, 0.2, 0.9])
    monkeypatch.setattr(
        speed_cell, "one_round", lambda *_: speed_cell.Round({"a": [1.0]}, next(shares))
    )
    figures = speed_cell.measure({"a": list}, rounds=3, patience_s=0)["a"]
    assert figures["disturbed"] == pytest.approx(1.6 / 3, abs=1e-3)


def test_a_ratio_is_of_rounds_side_by_side() -> None:
    # The machine slows down by ten in the third round: the ratio does not change.
    row = {
        "onnxruntime": {"rounds_ms": [10.0, 10.0, 100.0]},
        "rekindle": {"rounds_ms": [8.0, 8.0, 80.0]},
        "tinygrad": {"rounds_ms": [40.0, 40.0, 40.0], "beside": {"rounds_ms": [20.0, 20.0, 20.0]}},
        "ncnn": {"failed": "does not load"},
    }
    assert speed.ratio(row, "rekindle") == pytest.approx(0.8)
    assert speed.ratio(row, "tinygrad") == pytest.approx(2.0)
    assert speed.ratio(row, "ncnn") is None


def test_history_keeps_one_line_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "HISTORY", tmp_path / "history.jsonl")
    for commit, ms in (("aa", 1.0), ("bb", 2.0), ("bb", 3.0)):
        engines = {"rekindle": {"median_ms": ms}, "ncnn": {"failed": "no"}}
        cell = {"commit": commit, "date": "2026-01-01", "machine": "m", "engines": engines}
        speed.remember({"cells": {"x x1": cell}}, commit)
    lines = [json.loads(line) for line in speed.HISTORY.read_text().splitlines()]
    assert [(e["commit"], e["median_ms"]["x x1"]) for e in lines] == [
        ("aa", {"rekindle": 1.0}),
        ("bb", {"rekindle": 3.0}),
    ]


def test_a_product_is_what_it_says(tmp_path: Path) -> None:
    import onnxruntime as ort

    for name, inputs in (("gemm-512", 2), ("gemm-512-weights", 1)):
        path, feeds = find(name, 1, tmp_path)
        assert len(feeds) == inputs
        found = ort.InferenceSession(str(path)).run(None, feeds)[0]
        if inputs == 2:
            np.testing.assert_allclose(found, feeds["a"] @ feeds["b"], rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="batch"):
        find("gemm-512", 8, tmp_path)


@pytest.mark.opencl
def test_a_cell_is_measured_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "speed.json"
    monkeypatch.setattr(speed, "FOLDER", tmp_path)
    command = ["speed.py", "--models", "gemm-512", "--engines", "rekindle,nonsense", "--batch", "1"]
    monkeypatch.setattr(
        sys, "argv", [*command, "--rounds", "2", "--patience", "0", "--out", str(out)]
    )
    speed.main()
    cell = json.loads(out.read_text())["cells"]["gemm-512 x1"]
    engines = cell["engines"]
    assert engines["rekindle"]["difference"] < 1e-5
    assert engines["rekindle"]["median_ms"] > 0
    assert len(engines["onnxruntime"]["rounds_ms"]) == 2
    assert engines["numpy"]["runs"] >= 2
    assert "nonsense" in engines["nonsense"]["failed"]
    capsys.readouterr()
    speed.main()
    assert capsys.readouterr().out == "gemm-512 x1: measured at this commit\n"


def test_engines_of_an_earlier_run_keep_the_reference_beside_which_they_ran() -> None:
    def ran(*rounds_ms: float) -> dict[str, Any]:
        return {"rounds_ms": list(rounds_ms)}

    before = {"onnxruntime": ran(10.0, 10.0, 10.0), "ncnn": ran(20.0, 20.0, 20.0),
              "rekindle": ran(9.0, 9.0, 9.0), "tinygrad": {"failed": "no"}}  # fmt: skip
    row = {"onnxruntime": ran(5.0, 5.0), "rekindle": ran(4.0, 4.0)}
    merged = speed._kept(before, row) | row
    assert speed.ratio(merged, "ncnn") == 2.0
    assert speed.ratio(merged, "rekindle") == 0.8
    assert merged["tinygrad"] == {"failed": "no"}
    assert speed._kept(merged, {"rekindle": ran(1.0)})["ncnn"]["beside"] == ran(10.0, 10.0, 10.0)
