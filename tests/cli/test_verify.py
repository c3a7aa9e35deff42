"""`rekindle verify`: what it prints, and the exit codes that a script can rely on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from rekindle.engine import compiler, program, selftest
from rekindle.engine.kernels import REGISTRY, source_text
from rekindle.engine.selftest import KernelReport

Run = Callable[..., Result]
Program = Callable[..., subprocess.CompletedProcess[str]]
Document = Callable[..., dict[str, Any]]


@pytest.mark.opencl
def test_a_model_that_agrees(rekindle: Run, document: Document, bare: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.ones((2, 3, 8, 8), np.float32))
    result = rekindle("verify", bare, "--input", tmp_path / "x.npz")
    assert result.exit_code == 0
    assert "nodes on the device agree." in result.stdout
    assert "first node that differs" not in result.stdout
    found = document(rekindle("verify", bare, "--shape", "N=3", "--json"))
    assert found["agrees"] is True
    assert found["first"] is None
    assert found["nodes"][0]["inputs"][0]["shape"][0] == 3
    assert found["outputs"][0]["name"] == "logits"


@pytest.mark.opencl
def test_a_model_that_differs(
    rekindle: Run, document: Document, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(stem: str) -> str:
        text = source_text(stem)
        changed = text.replace("r_begin + r_each, r_count)", "r_begin + r_each, r_count - 1)")
        assert stem != "reduce" or changed != text
        return changed

    monkeypatch.setattr(program, "source_text", wrong)
    monkeypatch.setattr(compiler, "_COMPILERS", {})
    result = rekindle("verify", bare)
    assert result.exit_code == 6
    for word in (
        "The first node that differs: ",
        "kernels  reduce",
        "max|a-b| / max|b| is ",
        "REKINDLE_DISABLE_KERNELS=reduce",
        "output   ",
    ):
        assert word in result.stdout
    told = rekindle("verify", bare, "--json")
    assert told.exit_code == 6
    found = document(told)
    assert found["agrees"] is False
    assert found["first"]["kernels"] == ["reduce"]
    assert found["first"]["differs"] is True


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "verify takes either a MODEL or --kernels"),
        (("MODEL", "--kernels"), "verify takes either a MODEL or --kernels"),
        (("--kernels", "--tolerance", "1e-3"), "--memory-limit and --precision are for a model"),
        (("MODEL", "--tolerance", "0"), "tolerance=0.0 is not a positive number"),
        (("MODEL", "--shape", "M=2"), "no dynamic dimension M"),
    ],
)
def test_wrong_questions(args: tuple[str, ...], message: str, rekindle: Run, bare: Path) -> None:
    result = rekindle("verify", *(str(bare) if arg == "MODEL" else arg for arg in args))
    assert result.exit_code == 2
    assert message in result.stderr


def reports(status: str) -> Callable[..., Iterator[KernelReport]]:
    def run(device: object, time_limit_s: float) -> Iterator[KernelReport]:
        assert time_limit_s == 7
        yield KernelReport("copy", "copy", "ok", 7, 0.0, switched_off=True)
        yield KernelReport("pool", "pool", status, 9, 0.25, "largest: 2.5e-01")  # type: ignore[arg-type]
        yield KernelReport("conv_lanes", "conv", "not used")

    return run


@pytest.mark.opencl
@pytest.mark.parametrize(
    ("status", "code"), [("ok", 0), ("wrong", 6), ("hung", 6), ("aborted", 6), ("refused", 6)]
)
def test_kernels(
    status: str, code: int, rekindle: Run, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "selftest", reports(status))
    page = rekindle("verify", "--kernels", "--time-limit", "7")
    assert page.exit_code == code
    rows = {line.split()[0]: line.split() for line in page.stdout.splitlines() if line.strip()}
    assert rows["copy"] == ["copy", "copy", "ok", "7", "0.0e+00", "switched", "off"]
    assert rows["pool"] == ["pool", "pool", status, "9", "2.5e-01", "largest:", "2.5e-01"]
    assert rows["conv_lanes"] == ["conv_lanes", "conv", "not", "used"]
    assert ("export REKINDLE_DISABLE_KERNELS=pool" in page.stdout) == (code > 0)
    told = rekindle("verify", "--kernels", "--time-limit", "7", "--json")
    assert told.exit_code == code
    found = document(told)
    assert found["failed"] == (code > 0)
    assert [k["kernel"] for k in found["kernels"]] == ["copy", "pool", "conv_lanes"]


@pytest.mark.opencl
@pytest.mark.slow
def test_every_kernel_of_this_machine(program: Program, document: Document) -> None:
    done = program("verify", "--kernels", "--json")
    found = document(done)
    assert done.returncode == 0, found
    assert {k["kernel"] for k in found["kernels"]} == set(REGISTRY.names())
    assert {k["status"] for k in found["kernels"]} <= {"ok", "not used"}
    assert sum(k["status"] == "ok" for k in found["kernels"]) >= 10
