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


def test_json_logs_are_nothing_but_json(bare: Path) -> None:
    command = [
        sys.executable, "-m", "rekindle.cli", "serve", bare, "--http-port", "0", "--grpc-port",
        "0", "--provider", "onnxruntime", "--isolation", "thread", "--log-format", "json",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    events = []
    while not events or events[-1]["message"] != "started":
        events.append(json.loads(process.stderr.readline()))
    listening = next(e for e in events if e["message"] == "listening")
    url = f"http://127.0.0.1:{listening['http_port']}/v2/models/bare?key=hidden"
    with urllib.request.urlopen(url, timeout=60) as answer:
        request_id = answer.headers["x-request-id"]
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    events += [json.loads(line) for line in rest.splitlines()]
    found = [e for e in events if e.get("request_id") == request_id]
    assert [e["message"] for e in found] == ["GET /v2/models/bare 200"]
    assert "hidden" not in rest
    messages = [e["message"] for e in events]
    assert {"model loaded", "model given up"} <= set(messages)
    assert events[messages.index("started")]["ready"] == 1


def test_wrong_options_are_one_line(rekindle: Callable[..., Result], tmp_path: Path) -> None:
    for arguments, message, code in (
        ((tmp_path / "nothing",), "no such model repository", 8),
        ((tmp_path, "--isolation", "box"), "unknown isolation 'box'", 2),
        ((tmp_path, "--rate-limit", "fast"), "'fast' is no rate", 2),
        ((tmp_path, "--max-request", "big"), "'big' is not an amount of memory", 2),
        ((tmp_path, "--api-keys", "none.toml"), "none.toml: no such file of API keys", 8),
        ((tmp_path, "--tls-cert", "none.pem"), "--tls-key is missing", 2),
        ((tmp_path, "--host", "0.0.0.0", "--allow-model-control"), "could load and unload", 2),
        ((tmp_path, "--log-format", "xml"), "unknown log format 'xml'", 2),
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
