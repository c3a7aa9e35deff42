"""`rekindle profile`: a table, a document, a page, a trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

pytestmark = pytest.mark.opencl

Run = Callable[..., Result]
Document = Callable[..., dict[str, Any]]


def test_page_trace_and_document(
    rekindle: Run, document: Document, bare: Path, tmp_path: Path
) -> None:
    html, trace = tmp_path / "p.html", tmp_path / "t.json"
    arguments = ("--shape", "N=2", "--runs", "2", "--html", html, "--trace", trace, "--json")
    found = document(rekindle("profile", bare, *arguments))
    assert found["shapes"]["image"][0] == 2
    assert found["launches"]
    assert all(launch["seconds"] > 0 for launch in found["launches"])
    assert "<svg" in html.read_text(encoding="utf-8")
    assert json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]


def test_people_see_kernels_and_the_slowest_launches(rekindle: Run, bare: Path) -> None:
    result = rekindle("profile", bare, "--runs", "1", "--top", "2")
    assert result.exit_code == 0
    for word in ("By kernel", "roofline", "Slowest launches", "measured peaks"):
        assert word in result.stdout


@pytest.mark.parametrize("arguments", [("--html", "/nowhere/p.html"), ("--shape", "Z=3")])
def test_what_cannot_be_done_is_one_line(
    rekindle: Run, bare: Path, arguments: tuple[str, str]
) -> None:
    result = rekindle("profile", bare, "--runs", "1", *arguments)
    assert result.exit_code not in (0, 1)
    assert "Traceback" not in result.output
