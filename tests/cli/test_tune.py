"""`rekindle tune`: a model, sizes, records in and out, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from rekindle import open_session
from rekindle.cli import _tuning
from rekindle.device import select_device
from rekindle.engine.tuner import store
from rekindle.engine.tuner.records import Environment, Measurement
from rekindle.engine.tuner.search import Search

Run = Callable[..., Result]
LEFT = "variants are not measured yet"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REKINDLE_CACHE_DIR", str(tmp_path / "cache"))


def known(path: Path, rekindle: Run) -> dict[str, Measurement]:
    """A record for the model's one convolution: the last variant, twice as fast."""
    question = _tuning.Question.ask(str(path), [], [], [], None)
    question.find_tasks("model")
    (task,) = question.tasks
    last = task.settings[-1]
    question.journal.add(task.name, Measurement(last, task.heuristic, "ok", 1e-5, 2e-5, 0.5, 7))
    return store.read(question.journal.records.environment).table[task.name]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--gemm", "12,x,4"), "N is 'x'"),
        (("--gemm", "12,4"), "has 2 sizes"),
        (("--gemm", "0,4,4"), "M is '0'"),
        (("--gemm", "65536,65536,1"), "more than 268,435,456 numbers"),
        (("--conv", "1,2,3"), "has 3 sizes"),
        (("--conv", "1,8,9,9,8,3,1,3"), "GROUP 3 does not divide"),
        (("--conv", "1,8,9,9,8,-3"), "K is '-3'"),
        (("--budget", "soon"), "is no time"),
        (("--shape", "N=2"), "--shape without a MODEL"),
        (("--export", "x.json"), "no records of this device"),
        (("--import", "nowhere.json"), "cannot be read"),
        (("no-such-model",), "no-such-model"),
        (("--device", "no-such-device"), "no-such-device"),
        (("--gemm", "4,4,4", "--precision", "fp8"), "fp8"),
        (("--gemm", "4,4,4", "--fast"), "--fast"),
        (("--gemm", "4,4,4", "--precision", "fp16"), "a precision without a MODEL"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, tuple) else None,
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], said: str, rekindle: Run) -> None:
    done = rekindle("tune", *arguments)
    assert done.exit_code != 0
    assert said in done.output
    assert "Traceback" not in done.output


def test_nothing_is_known_at_first(rekindle: Run) -> None:
    done = rekindle("tune")
    assert done.exit_code == 0
    assert "nothing is tuned on this device yet" in done.output


@pytest.mark.opencl
def test_sizes_are_tuned_shown_and_shared(rekindle: Run, tmp_path: Path) -> None:
    arguments = ("tune", "--gemm", "5,7,9", "--conv", "1,16,5,5,16,1")
    done = rekindle(*arguments, "--budget", "0.001s", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["turns"] == 1
    assert len(found["layers"]) == 3
    measured = [row for row in found["layers"] if row["measured"]]
    (row,) = measured
    assert row["gain"] >= 1
    assert found["geometric_mean_gain"] == pytest.approx(row["gain"])
    shared = tmp_path / "shared.json"
    shown = rekindle("tune", "--export", shared)
    assert row["workload"] in shown.output
    assert "records written to" in shown.output
    assert json.loads(shared.read_text(encoding="utf-8"))["workloads"].keys() == {row["workload"]}


@pytest.mark.opencl
def test_a_record_decides_in_sessions_and_is_told(
    bare: Path, rekindle: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    with open_session(bare, provider="opencl") as session:
        before = session.run({"image": image})["logits"]
        assert "tuning" not in session.placement.summary
    (measurement,) = known(bare, rekindle).values()
    with open_session(bare, provider="opencl") as session:
        after = session.run({"image": image})["logits"]
        nodes = {n.node: n.tuned for n in session.placement.nodes if n.tuned}
        assert list(nodes.values()) == [(str(measurement.setting),)]
        assert "1 by tuning records" in session.placement.summary
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    assert "tuning records decide 1 of" in rekindle("inspect", bare).output
    assert str(measurement.setting) in rekindle("profile", bare, "--runs", "1").output
    table = rekindle("tune", bare, "--budget", "0")
    assert "2.00" in table.output
    assert LEFT in table.output
    monkeypatch.setenv("REKINDLE_IGNORE_TUNING", "1")
    with open_session(bare, provider="opencl") as session:
        assert not any(n.tuned for n in session.placement.nodes)


@pytest.mark.opencl
def test_import_refuses_one_by_one(bare: Path, rekindle: Run, tmp_path: Path) -> None:
    known(bare, rekindle)
    shared = tmp_path / "shared.json"
    assert rekindle("tune", "--export", shared).exit_code == 0
    document = json.loads(shared.read_text(encoding="utf-8"))
    ((name, entries),) = document["workloads"].items()
    ((_, entry),) = entries.items()
    entries["conv_tiled P=77 Q=1 JOBS=32"] = entry
    shared.write_text(json.dumps(document), encoding="utf-8")
    store.path_of(Environment.of(select_device().target())).unlink()
    store._read.cache_clear()
    done = rekindle("tune", "--import", shared, "--json")
    imported = json.loads(done.stdout)["imported"]
    assert imported["taken"] == 1
    (refused,) = imported["refused"]
    assert "P=77 is outside the declared space" in refused
    document["environment"]["driver"] = "another"
    shared.write_text(json.dumps(document), encoding="utf-8")
    other = rekindle("tune", "--import", shared)
    assert other.exit_code == 0
    assert "measured with driver 'another'" in other.output
    shared.write_text("{}", encoding="utf-8")
    assert rekindle("tune", "--import", shared).exit_code == 2
    assert name


@pytest.mark.opencl
def test_an_interruption_keeps_what_was_found(
    rekindle: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Search.run

    def interrupted(self: Search):  # type: ignore[no-untyped-def]
        yield next(real(self))
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "run", interrupted)
    done = rekindle("tune", "--gemm", "3,5,7", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["interrupted"]
    assert sum(row["measured"] for row in found["layers"]) > 0
