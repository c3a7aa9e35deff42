"""Every script of benchmarks/ is there as a whole: what it takes from the others exists."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

SCRIPTS = sorted(path.stem for path in (Path(__file__).parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_can_be_imported(name: str) -> None:
    pytest.importorskip("tritonclient", reason="tritonclient is not installed")
    assert importlib.import_module(name).__doc__
