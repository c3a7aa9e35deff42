"""PoCL links its kernels with the ziglang wheel where the system brings no linker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recorded_devices import need

from rekindle.device import pocl_linker

SYSTEM = ("usr/bin/ld", "usr/lib/gcc/x86_64-linux-gnu/12/libgcc.a", "usr/lib64/libc.so")


@pytest.mark.parametrize("missing", [None, *SYSTEM])
def test_a_system_linker_is_all_of_its_parts(tmp_path: Path, missing: str | None) -> None:
    for name in SYSTEM:
        if name != missing:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    assert pocl_linker.has_system_linker(tmp_path) is (missing is None)


@pytest.fixture
def zig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that prints what it is called with, as the only linker there is."""
    program = tmp_path / "my zig" / "zig"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(pocl_linker, "zig_program", lambda: program)
    monkeypatch.setattr(pocl_linker, "has_system_linker", lambda root: False)
    monkeypatch.setenv("PATH", os.environ["PATH"])
    return program


def test_ld_calls_zig_without_libraries(
    zig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REKINDLE_CACHE_DIR", str(tmp_path / "cache"))
    pocl_linker.provide()
    pocl_linker.provide()
    linker = shutil.which("ld")
    assert linker == str(tmp_path / "cache/linker/ld")
    arguments = ["-shared", "-o", "a b.so", "-L/x", "k.o", "-lgcc", "--as-needed", "-lc", "-z", "r"]
    done = subprocess.run([linker, *arguments], capture_output=True, text=True, check=True)
    expected = ["ld.lld", "-shared", "-o", "a b.so", "-L/x", "k.o", "-z", "r"]
    assert done.stdout.splitlines() == expected


def test_a_cache_that_is_no_folder_is_done_without(
    zig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REKINDLE_CACHE_DIR", str(tmp_path / "file"))
    pocl_linker.provide()
    assert "rekindle-linker-" in str(shutil.which("ld"))


def test_nothing_changes_where_the_system_has_a_linker(
    zig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pocl_linker, "has_system_linker", lambda root: True)
    before = os.environ["PATH"]
    pocl_linker.provide()
    assert os.environ["PATH"] == before


@pytest.mark.opencl
def test_pocl_builds_a_kernel_with_the_wheel_s_linker(tmp_path: Path) -> None:
    need(pocl_linker.zig_program(), "ziglang is not installed")
    code = """
from rekindle.device import pocl_linker
pocl_linker.has_system_linker = lambda root: False
from rekindle.device import list_devices
import numpy as np, pyopencl as cl
device = next(d for d in list_devices() if d.family == "cpu").opencl()
context = cl.Context([device])
source = "__kernel void f(__global float *x) { int i = get_global_id(0); x[i] = pow(x[i], 1.5f); }"
program = cl.Program(context, source).build(cache_dir=False)
x = np.arange(64, dtype=np.float32)
buffer = cl.Buffer(context, cl.mem_flags.COPY_HOST_PTR, hostbuf=x)
queue = cl.CommandQueue(context)
program.f(queue, x.shape, None, buffer)
cl.enqueue_copy(queue, x, buffer)
np.testing.assert_allclose(x, np.arange(64) ** 1.5, rtol=1e-5)
"""
    environment = os.environ | {"POCL_CACHE_DIR": str(tmp_path / "pocl")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
