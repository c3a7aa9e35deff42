"""`rekindle serve` as a process: what it says, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from rekindle.cli import serve as serve_file


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_it_says_where_it_listens_and_ends_on_sigterm(bare: Path, isolation: str) -> None:
    command = [
        sys.executable, "-m", "rekindle.cli", "serve", bare, "--http-port", "0", "--grpc-port",
        "0", "--provider", "onnxruntime", "--isolation", isolation, "--json",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "ask it something" in line:
            break
    text = "".join(lines)
    found = re.search(r"REST +(http://127\.0\.0\.1:\d+)", text)
    assert found, text
    assert "bare version 1: onnxruntime on" in text
    assert "batches up to 16" in text
    with urllib.request.urlopen(f"{found[1]}/v2/models/bare", timeout=60) as answer:
        assert json.loads(answer.read())["inputs"][0]["shape"] == [-1, 3, 8, 8]
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out) == {"stopped": True, "answered": True}


def test_wrong_options_are_one_line(rekindle: Callable[..., Result], tmp_path: Path) -> None:
    for arguments, message, code in (
        ((tmp_path / "nothing",), "no such model repository", 8),
        ((tmp_path, "--isolation", "box"), "unknown isolation 'box'", 2),
        ((tmp_path, "--memory-budget", "much"), "'much' is not an amount of memory", 2),
        ((tmp_path, "--provider", "onxruntime"), "did you mean onnxruntime?", 2),
    ):
        result = rekindle("serve", *arguments, "--http-port", "0", "--grpc-port", "0")
        assert (result.exit_code, message in result.output) == (code, True), result.output


def test_a_missing_extra_names_the_command(
    rekindle: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_file.importlib.util, "find_spec", lambda name: None)
    result = rekindle("serve")
    assert (result.exit_code, "pip install 'rekindle[serve]'" in result.output) == (3, True)
