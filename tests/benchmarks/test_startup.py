"""The start-up benchmark: a process of its own that tells its stages."""

from __future__ import annotations

from pathlib import Path

import pytest
import startup

from tests.engine.graphs import classifier, write

pytestmark = [pytest.mark.opencl, pytest.mark.slow]


def test_stages_of_a_process(tmp_path: Path) -> None:
    path = write(classifier(), tmp_path)
    found = startup.stages(path, tmp_path)
    stages = found["import_s"] + found["open_s"] + found["first_run_s"]
    assert found["ready_s"] == pytest.approx(stages)
    assert found["read_s"] < found["ready_s"] < found["process_s"]
    assert 1 <= found["programs"] <= found["launches"]
    assert list((tmp_path / "rekindle").rglob("*.bin")), "the caches are the ones that were given"
    built = startup.stages(path, tmp_path, "--build", "singly, two threads")
    assert built["programs"] == found["programs"]
