"""Profiles: what they count, and that it adds up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from graphs import classifier

from rekindle.device import select_device
from rekindle.engine.peaks import Peaks, peaks
from rekindle.engine.profile import Profile, chrome_trace, with_launches
from rekindle.graph import onnx_io
from rekindle.runtime.benchmark import feeds_for
from rekindle.runtime.profile import profile_model
from rekindle.runtime.profile_page import by_kernel, profile_page

pytestmark = pytest.mark.opencl


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    path = tmp_path_factory.mktemp("model") / "classifier.onnx"
    path.write_bytes(classifier().SerializeToString())
    graph = onnx_io.load(path)
    return profile_model(graph, feeds_for(graph.input_specs()), runs=3)


def test_every_launch_of_the_plan_has_a_time(found: Profile) -> None:
    planned = list(found.plan.launches())
    assert [(t.kernel, t.entry, t.flops) for t in found.launches] == [
        (launch.chosen, launch.entry, launch.flops) for launch in planned
    ]
    assert all(t.seconds > 0 for t in found.launches)
    kernels = [(span, launch) for span, launch in with_launches(found) if span.kind == "kernel"]
    assert [launch for _, launch in kernels] == list(found.launches)
    assert [span.name for span, _ in kernels] == [t.node for t in found.launches]


def test_the_times_of_a_run_add_up(found: Profile) -> None:
    kinds = ("kernel", "upload", "download", "host")
    assert sum(map(found.seconds, kinds)) + found.gap_s == pytest.approx(found.run_s, rel=0.05)
    totals = by_kernel(found.launches)
    assert sum(t.launches for t in totals) == len(found.launches)
    assert sum(t.seconds for t in totals) == pytest.approx(sum(t.seconds for t in found.launches))
    assert [t.seconds for t in totals] == sorted((t.seconds for t in totals), reverse=True)


def test_rooflines_are_the_least_time_over_the_time_taken(found: Profile) -> None:
    roof = found.peaks
    for t in found.launches:
        least = max(t.flops / roof.flops_s, t.moved_bytes / roof.bandwidth_bytes_s)
        assert t.roofline == pytest.approx(least / t.seconds)
        assert (t.limit == "compute") == (t.flops / roof.flops_s == least > 0)


def test_chrome_reads_the_trace(found: Profile) -> None:
    events = json.loads(json.dumps(chrome_trace(found)))["traceEvents"]
    spans = [e for e in events if e["ph"] == "X"]
    assert len(spans) == len(found.spans)
    assert min(e["ts"] for e in spans) == 0
    assert all(e["dur"] >= 0 for e in spans)
    assert sum(e["cat"] == "kernel" for e in spans) == len(found.launches)


def test_the_page_shows_every_launch_and_every_value_and_needs_nothing_else(
    found: Profile,
) -> None:
    text = profile_page(found, "a <model>")
    assert "a &lt;model&gt;" in text
    assert text.count("<title>") == 1 + len(found.spans) + len(found.plan.lifetimes)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_lifetimes_are_those_of_the_memory_plan(found: Profile) -> None:
    memory, alive = found.plan.memory, found.plan.lifetimes
    assert {v.name for v in alive} == set(memory.offsets)
    for v in alive:
        for w in alive:
            if v is not w and v.first <= w.last and w.first <= v.last:
                ends = memory.offsets[v.name] + memory.sizes[v.name]
                other = memory.offsets[w.name] + memory.sizes[w.name]
                assert ends <= memory.offsets[w.name] or other <= memory.offsets[v.name]


def test_peaks_are_plausible_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REKINDLE_CACHE_DIR", str(tmp_path))
    device = select_device()
    measured = peaks(device)
    assert measured.flops_s > 1e9
    assert 1e8 < measured.bandwidth_bytes_s < 1e13
    assert 0 < measured.launch_s < 0.1
    assert peaks(device) == measured
    (kept,) = (tmp_path / "peaks").iterdir()
    kept.write_text("damaged")
    assert peaks(device).flops_s > 1e9


def test_the_roofline_is_the_slower_of_the_two() -> None:
    roof = Peaks(flops_s=100.0, bandwidth_bytes_s=10.0, launch_s=0.0)
    assert roof.seconds(200, 5) == 2.0
    assert roof.seconds(200, 50) == 5.0
