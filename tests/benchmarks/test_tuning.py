"""The tuning benchmark: what it keeps of a run, and the page made of it."""

from __future__ import annotations

from typing import Any

import generate
import pytest
import tuning
import tuning_page


def layer(name: str, gain: float | None, count: int = 1) -> dict[str, Any]:
    return {
        "workload": name, "layers": ["l"] * count, "heuristic": "conv_tiled P=5",
        "tuned": "conv_tiled P=6", "heuristic_s": 1e-3, "tuned_s": 1e-3, "measured": 4,
        "space": 9, "gain": gain,
    }  # fmt: skip


DOCUMENT = {
    "layers": [layer("conv a", 1.5, 2), layer("conv b", 1.0), layer("conv c", None)],
    "geometric_mean_gain": 1.31,
    "whole_model": {"heuristic_ms": 4.0, "tuned_ms": 3.0, "ratio": 0.75, "difference": 1e-6},
    "wrong": [],
    "broken": ["conv c: ..."],
}


def test_a_summary_counts_layers_classes_and_variants() -> None:
    found = tuning.summary(DOCUMENT)
    assert (found["layers"], found["classes"], found["classes_measured"]) == (4, 3, 2)
    assert (found["variants_measured"], found["variants"]) == (12, 27)
    assert (found["wrong"], found["broken"]) == (0, 1)
    assert [row["gain"] for row in found["greatest_gains"]] == [1.5, 1.0]


@pytest.mark.parametrize(("load", "shown"), [(0.5, True), (9.0, False)])
def test_times_of_a_machine_that_was_shared_are_not_shown(load: float, shown: bool) -> None:
    run = {
        "machine": {"cores": 2},
        "budget": "5m",
        "device": {"device": "a card", "driver": "a driver"},
        "runs": {"squeezenet": tuning.summary(DOCUMENT) | {"load": load}},
    }
    text = "\n".join(tuning_page.text(run, "On a machine.", generate.table))
    assert ("4.00" in text) == shown
    assert ("only the ratios count" in text) != shown
    assert "| 1.31 |" in text
    assert "0.75" in text
    assert text.count("conv_tiled P=6") == 1, "only gains"
