"""The self-test of kernels: that it covers them all, and that it tells what goes wrong, and how."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recorded_devices import devices, facts, pocl, rusticl

from rekindle._errors import UsageError
from rekindle.device import Device, select_device
from rekindle.device.quirks import Quirk
from rekindle.engine import compiler, kernels, program, selftest
from rekindle.engine.kernels import source_text
from tests.engine.graphs import POLARIS

CPU = replace(POLARIS, family="cpu", wavefront=8, alignment_bytes=128)
Change = Callable[[str, str, str], None]


def recorded() -> Device:
    """A device of which only the facts are here: only a child process would touch it."""
    (device,) = devices(pocl("6.0"))
    return device


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Change:
    """Replace text in a kernel's source, in a context that has not compiled it yet."""

    def replaced(stem: str, old: str, new: str) -> None:
        assert old in source_text(stem)

        def text(asked: str) -> str:
            return source_text(asked).replace(old, new) if asked == stem else source_text(asked)

        monkeypatch.setattr(program, "source_text", text)
        monkeypatch.setattr(compiler, "_COMPILERS", {})

    return replaced


def examined(kernel: str) -> dict[str, Any]:
    """The last state that a test in this process tells."""
    told: list[dict[str, Any]] = []
    selftest.examine(kernel, select_device(), told.append)
    return told[-1]


def child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let every kernel's process run `code` instead; sys.argv[1] is the state's file."""

    def command(kernel: str, index: int, told: Path) -> list[str]:
        return [sys.executable, "-c", code, str(told)]

    monkeypatch.setattr(selftest, "_command", command)


@pytest.mark.parametrize("kernel", kernels.REGISTRY.names())
def test_every_kernel_has_cases(kernel: str) -> None:
    found = [case.name for t in (CPU, POLARIS) for case, _ in selftest.plans(kernel, t)]
    assert found, f"selftest_cases has nothing that {kernel} takes"


def test_a_kernel_of_another_family_is_not_used() -> None:
    (card,) = devices(rusticl(facts()))
    (report,) = selftest.selftest(card, ["conv_tiled"])
    assert (report.status, report.cases, report.failed) == ("not used", 0, False)


@pytest.mark.opencl
def test_a_right_kernel_in_its_own_process() -> None:
    (report,) = selftest.selftest(select_device(), ["fill"])
    assert (report.status, report.detail) == ("ok", "")
    assert report.cases == 1
    assert report.worst == 0


@pytest.mark.opencl
def test_a_wrong_kernel_is_found(change: Change) -> None:
    change("fill", "y[i] = (T)value", "y[i] = (T)(i == 1 ? 0 : value)")
    state = examined("fill")
    assert state["at"] == "end"
    assert [text.partition(":")[0] for text in state["wrong"]] == ["pad"]
    assert state["worst"] > 0.1


@pytest.mark.opencl
def test_a_kernel_that_does_not_compile(change: Change) -> None:
    change("fill", "y[i] = (T)value", "y[i] = nonsense")
    state = examined("fill")
    assert state["at"] == "compilation"
    assert "did not compile" in state["problem"]


def test_a_kernel_that_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    child(
        monkeypatch, "import os, sys; print('LLVM ERROR', file=sys.stderr, flush=True);os.abort()"
    )
    (report,) = selftest.selftest(recorded(), ["fill"])
    assert report.status == "aborted"
    assert report.failed
    assert "at: start" in report.detail
    assert report.detail.endswith("LLVM ERROR")
    if sys.platform != "win32":
        assert "SIGABRT" in report.detail


def test_a_kernel_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    child(
        monkeypatch,
        "import sys, threading, pathlib\n"
        'pathlib.Path(sys.argv[1]).write_text(\'{"at": "3x3"}\')\n'
        "threading.Event().wait()",
    )
    (report,) = selftest.selftest(recorded(), ["fill"], time_limit_s=2.0)
    assert report.status == "hung"
    assert report.detail.endswith("s, at: 3x3")


@pytest.mark.parametrize(
    ("state", "status", "detail"),
    [
        ('{"at": "end", "worst": 0.5, "wrong": ["pad: 5e-01"]}', "wrong", "pad: 5e-01"),
        ('{"at": "pad", "wrong": [], "problem": "no memory"}', "refused", "pad: no memory"),
        ('{"at": "end", "worst": 1e-7, "wrong": [], "problem": ""}', "ok", ""),
        (
            '{"at": "pad", "worst": 0, "wrong": [], "problem": ""}',
            "aborted",
            "ended with code 0, at: pad; it said nothing",
        ),
    ],
)
def test_what_the_process_tells(
    state: str, status: str, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(monkeypatch, f"import sys, pathlib; pathlib.Path(sys.argv[1]).write_text({state!r})")
    (report,) = selftest.selftest(recorded(), ["fill"])
    assert (report.status, report.detail) == (status, detail)
    assert report.cases == 1


def test_a_kernel_that_is_switched_off_is_tested_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    child(monkeypatch, "raise SystemExit(3)")
    row = Quirk("x", (), "wrong here", "a test", platform="P", disabled_kernels=("fill",))
    off, on = selftest.selftest(replace(recorded(), quirks=(row,)), ["fill", "copy"])
    assert (off.switched_off, on.switched_off) == (True, False)
    assert off.status == on.status == "aborted"
    assert "ended with code 3" in off.detail


def test_a_limit_that_is_none() -> None:
    with pytest.raises(UsageError, match="time_limit_s=0 is not a positive number"):
        list(selftest.selftest(recorded(), time_limit_s=0))


@pytest.mark.slow
def test_every_kernel_of_a_card_is_right_on_rusticl(tmp_path: Path) -> None:
    """The front-end that owners of a Polaris card use, here on the processor."""
    verify = ["verify", "--kernels", "--device", "rusticl", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "rekindle.cli", *verify],
        env={**os.environ, "RUSTICL_ENABLE": "llvmpipe", "REKINDLE_CACHE_DIR": str(tmp_path)},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    if "fits none of the OpenCL devices" in done.stdout + done.stderr:
        if os.environ.get("REKINDLE_REQUIRE_TOOLS", "0") not in ("", "0"):
            pytest.fail("Rusticl is not installed (mesa-opencl-icd)")
        pytest.skip("Rusticl is not installed (mesa-opencl-icd)")
    reports = {report["kernel"]: report for report in json.loads(done.stdout)["kernels"]}
    assert reports.keys() == set(kernels.REGISTRY.names())
    for name, report in reports.items():
        used = bool(selftest.plans(name, replace(POLARIS, family="generic")))
        assert report["status"] == ("ok" if used else "not used"), report
