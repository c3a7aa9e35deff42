"""Tuning records: classes of calls, files there and back, and files from anybody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import POLARIS
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_harness import CPU8, CPU16
from tuning_cases import planned_calls, products

from rekindle._errors import UsageError
from rekindle.engine.choices import Setting
from rekindle.engine.kernels import REGISTRY, Context
from rekindle.engine.tuner import store
from rekindle.engine.tuner.exchange import export_text, take_in
from rekindle.engine.tuner.records import (
    Environment,
    Measurement,
    TuningRecords,
    dumps,
    loads,
    parse_setting,
)
from rekindle.engine.tuner.workload import extent, workload
from rekindle.graph.lowering import LogicalCall

TARGET = replace(CPU8, platform="PoCL", driver="PoCL 3.0 | 3.0")
HERE = Environment.of(TARGET)
TUNABLE = sorted(n for n in REGISTRY.names() if REGISTRY.get(n).tunables is not None)


def calls() -> list[tuple[LogicalCall, Context]]:
    return planned_calls(products(), TARGET)


@st.composite
def measurements(draw: st.DrawFn) -> tuple[str, Measurement]:
    """A class of calls, and a measurement inside the declared space."""
    kernel = draw(st.sampled_from(TUNABLE))
    tunables = REGISTRY.get(kernel).tunables or {}
    variant = tuple((n, draw(st.sampled_from(sorted(v)))) for n, v in tunables.items())
    name = f"{REGISTRY.get(kernel).call} " + draw(
        st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
    )
    seconds = st.floats(1e-7, 1e3, allow_nan=False)
    return name, Measurement(
        Setting(kernel, variant, draw(st.sampled_from(["", "0123456789abcdef"]))),
        Setting(kernel, variant),
        "ok",
        draw(seconds),
        draw(seconds),
        draw(seconds),
        draw(st.integers(1, 99)),
        imported=draw(st.booleans()),
    )


@settings(max_examples=25)
@given(st.lists(measurements(), max_size=4))
def test_what_is_written_is_read(entries: list[tuple[str, Measurement]]) -> None:
    records = TuningRecords(HERE)
    for name, measurement in entries:
        records.add(name, measurement)
    read, problems = loads(dumps(records), "a file")
    assert problems == []
    assert read == records


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, 1), (13, 13), (64, 64), (65, 80), (127, 128), (128, 128), (129, 160), (3136, 3584)],
)
def test_extents_are_exact_to_64_and_then_rounded_up(size: int, expected: int) -> None:
    assert extent(size) == expected


@given(st.integers(1, 10**6))
def test_an_extent_is_no_smaller_and_at_most_a_quarter_larger(size: int) -> None:
    assert size <= extent(size) <= size * 1.25
    assert extent(extent(size)) == extent(size)


def test_classes_tell_apart_what_decides() -> None:
    names = {call.node: workload(call, context) for call, context in calls()}
    assert names["constant"] == "matmul b1 m29 n77 k130 nn a:float32 b:float32 y:float32"
    assert names["computed"] == "matmul b3 m13 n48 k64 nn a:float32 b:float32? y:float32"
    assert names["row"] != names["constant"]


def test_environments_tell_devices_drivers_and_widths_apart() -> None:
    targets = (
        TARGET,
        replace(TARGET, driver="PoCL 5.0"),
        replace(TARGET, compute_units=8),
        replace(CPU16, platform="PoCL", driver=TARGET.driver),
        POLARIS,
    )
    assert len({store.path_of(Environment.of(t)) for t in targets}) == len(targets)


def test_the_system_under_mesa_does_not_matter() -> None:
    def device(name: str) -> str:
        return Environment.of(replace(POLARIS, name=name)).device

    for drm in ("3.57, 6.8.0-45-generic", "3.61, 6.12.1", "3.57"):
        assert device(f"RX 580 (radeonsi, ACO, DRM {drm})") == "RX 580 (radeonsi, ACO)"
    assert (
        device("RX 570 (POLARIS10, DRM 3.26.0, 4.16-amd, LLVM 6.0)")
        == "RX 570 (POLARIS10, LLVM 6.0)"
    )


def document(**changed: Any) -> dict[str, Any]:
    """A file with one good entry."""
    records = TuningRecords(HERE)
    setting = parse_setting("matmul_tiled P=3 Q=1 JOBS=32")
    records.add("matmul b1", Measurement(setting, setting, "ok", 1e-4, 2e-4, 0.5, 7))
    made: dict[str, Any] = json.loads(dumps(records))
    return made | changed


def entry(key: str = "matmul_tiled P=3 Q=1 JOBS=32", **changed: Any) -> dict[str, Any]:
    good = document()["workloads"]["matmul b1"]["matmul_tiled P=3 Q=1 JOBS=32"]
    return document(workloads={"matmul b1": {key: good | changed}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "does not say that it holds"),
        ("null", "does not say that it holds"),
        ("1" * 10_000, "is not JSON"),
        ('{"format": "other"}', "does not say that it holds"),
        (json.dumps(document(version=2)), "is of version 2"),
        (json.dumps(document(version=None)), "is of version None"),
        (json.dumps(document(environment={"device": 1})), "lacks its environment"),
        (json.dumps(document(workloads=[])), "lacks its environment or its workloads"),
    ],
    ids=range(11),
)
def test_what_is_no_file_of_records_is_said(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        loads(text, "odd.json")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (entry("matmul_tiled P=99 Q=1 JOBS=32"), "P=99 is outside the declared space"),
        (entry("matmul_tiled P=3"), "is tuned by P, Q, JOBS"),
        (entry("matmul_tiled P=3 P=3 Q=1 JOBS=32"), "is tuned by P, Q, JOBS"),
        (entry("softmax"), "softmax has nothing to tune"),
        (entry("../../etc/passwd"), "this is no kernel"),
        (entry("os.system P=1"), "this is no kernel"),
        (entry("no_such P=1"), "there is no kernel no_such"),
        (entry("conv_tiled P=3 Q=1 JOBS=32"), "conv_tiled does not do this"),
        (entry(status="best"), "status is none of"),
        (entry(seconds="1"), "seconds is no number"),
        (entry(seconds=True), "seconds is no number"),
        (entry(ratio=0), "ratio is not a positive number"),
        (entry(ratio=-1.0), "ratio is not a positive number"),
        (entry(ratio=float("nan")), "ratio is not a positive number"),
        (entry(heuristic_s=float("inf")), "heuristic_s is not a positive number"),
        (entry(heuristic_s=10**400), "heuristic_s is not a positive number"),
        (entry(runs=-1), "runs is no count"),
        (entry(sources="; rm -rf /"), "sources is no hash"),
        (entry(reason="x" * 9999), "reason is no short text"),
        (entry(against="conv_tiled"), "conv_tiled is tuned by"),
        (document(workloads={"matmul \x1b[31m": {"a": {}}}), "names no class of calls"),
        (document(workloads={"matmul b1": []}), "this is no measurement"),
        (document(workloads={"matmul b1": {"matmul_tiled": None}}), "this is no measurement"),
    ],
    ids=range(23),
)
def test_entries_outside_the_declared_space_are_refused_one_by_one(
    given: dict[str, Any], said: str
) -> None:
    records, problems = loads(json.dumps(given), "odd.json")
    assert len(records) == 0
    (problem,) = problems
    assert said in problem
    assert problem.isprintable()


@settings(max_examples=40)
@given(st.recursive(st.none() | st.integers() | st.text() | st.floats(), st.lists, max_leaves=9))
def test_any_value_in_an_entry_is_read_or_refused(odd: object) -> None:
    good = document()["workloads"]["matmul b1"]["matmul_tiled P=3 Q=1 JOBS=32"]
    for key in good:
        given_ = json.dumps(entry(**{key: odd}), default=str)
        records, problems = loads(given_, "odd.json")
        assert len(records) + len(problems) == 1


def test_what_does_not_count_is_never_best() -> None:
    call, context = calls()[0]
    name = workload(call, context)
    assert name
    slow, fast = (parse_setting(f"matmul_tiled P={p} Q=1 JOBS=32") for p in (1, 3))
    records = TuningRecords(HERE)
    assert records.best(call, context) is None
    records.add(name, Measurement(slow, slow, "ok", 1.0, 1.0, 0.98, 7))
    assert records.best(call, context) is None, "within what measurements differ by"
    for status in ("wrong", "broken", "started"):
        records.add(name, Measurement(fast, slow, status, 0.1, 1.0, 0.1, 7))
        assert records.best(call, context) is None, status
    records.add(name, Measurement(fast, slow, "ok", 0.5, 1.0, 0.5, 7))
    assert records.best(call, context) == fast


def test_a_journal_keeps_what_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REKINDLE_CACHE_DIR", str(tmp_path))
    one, two = (parse_setting(f"matmul_tiled P={p} Q=1 JOBS=32") for p in (1, 2))
    mine, theirs = store.Journal(HERE), store.Journal(HERE)
    mine.add("matmul b1", Measurement(one, one, "ok", 1.0, 1.0, 1.0, 7))
    theirs.add("matmul b1", Measurement(two, one, "ok", 0.5, 1.0, 0.5, 7))
    assert len(store.read(HERE)) == 2
    theirs.remove("matmul b1", Measurement(one, one))
    assert [str(m.setting) for m in store.read(HERE).table["matmul b1"].values()] == [str(two)]
    assert store.stored(TARGET) is not None
    monkeypatch.setenv("REKINDLE_IGNORE_TUNING", "1")
    assert store.stored(TARGET) is None


@pytest.mark.parametrize("text", ["", "{", "\udcff", "foreign"])
def test_a_file_that_cannot_be_read_counts_as_empty(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REKINDLE_CACHE_DIR", str(tmp_path))
    path = store.path_of(HERE)
    path.parent.mkdir()
    if text == "foreign":
        other = TuningRecords(replace(HERE, device="another"))
        setting = parse_setting("matmul_tiled P=3 Q=1 JOBS=32")
        other.add("matmul b1", Measurement(setting, setting, "ok", 1.0, 2.0, 0.5, 7))
        text = dumps(other)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert store.stored(TARGET) is None
    rows = Setting("matmul_rows", ())
    store.Journal(HERE).add("matmul b1", Measurement(rows, rows, "ok", 1.0, 1.0, 1.0, 7))
    assert len(loads(path.read_text(encoding="utf-8"), "it")[0]) == 1


def test_export_and_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REKINDLE_CACHE_DIR", str(tmp_path))
    tiles = [parse_setting(f"matmul_tiled P={p} Q=1 JOBS=32") for p in (1, 2, 3)]
    records = TuningRecords(HERE)
    records.add("matmul b1", Measurement(tiles[0], tiles[0], "ok", 1.0, 1.0, 1.0, 7))
    records.add("matmul b1", Measurement(tiles[1], tiles[0], "ok", 0.5, 1.0, 0.5, 7))
    records.add("matmul b1", Measurement(tiles[2], tiles[0], "wrong", reason="differs"))
    text, count = export_text(records)
    assert count == 2, "only what succeeded"
    journal = store.Journal(HERE)
    journal.add("matmul b1", Measurement(tiles[0], tiles[0], "ok", 3.0, 3.0, 1.0, 7))
    taken = take_in(journal, text, "shared.json")
    assert (taken.taken, taken.kept, taken.refused) == (1, 1, ())
    known = store.read(HERE).table["matmul b1"]
    assert known[str(tiles[0])].seconds == 3.0, "this machine's own stays"
    assert known[str(tiles[1])].imported
    again, count = export_text(store.read(HERE))
    assert count == 1, "what somebody else measured is not handed on as ours"
    assert loads(again, "again")[1] == []


def test_records_of_another_device_are_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REKINDLE_CACHE_DIR", str(tmp_path))
    text = json.dumps(document())
    for changed in ({"device": "RX 580"}, {"driver": "Mesa 25.2"}, {"compute_units": 36}):
        journal = store.Journal(replace(HERE, **changed))
        taken = take_in(journal, text, "shared.json")
        (reason,) = taken.refused
        assert (taken.taken, len(journal.records)) == (0, 0)
        assert "here it is" in reason
        assert next(iter(changed)).replace("_", " ") in reason


def test_a_record_is_used_for_the_whole_class_and_no_other() -> None:
    call, context = next((c, x) for c, x in calls() if c.node == "constant")
    name = workload(call, context)
    assert name
    records = TuningRecords(HERE)
    fast = parse_setting("matmul_tiled P=1 Q=1 JOBS=32")
    records.add(name, Measurement(fast, fast, "ok", 0.5, 1.0, 0.5, 7))
    for other, around in calls():
        assert (records.best(other, around) == fast) == (other.node == "constant")
    assert np.isfinite(records.table[name][str(fast)].ratio)
