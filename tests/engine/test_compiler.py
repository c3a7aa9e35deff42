"""Program text, the binary cache, and what happens when the cache cannot be used."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

from rekindle import _log
from rekindle._errors import KernelError
from rekindle.engine import compiler as module
from rekindle.engine import kernels, program
from rekindle.engine.kernels import Launch

pytestmark = pytest.mark.opencl

TEMPLATE = """
static int NAME(offset)(void) { return OFFSET; }
__kernel void NAME(shift)(__global int *x) {
  x[get_global_id(0)] += NAME(offset)();
}
"""


def launch(offset: str) -> Launch:
    return Launch("shift", "shift", (("OFFSET", offset),), (), (4,), None)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> module.Compiler:
    """A compiler with an empty cache, on a template of our own."""
    import pyopencl as cl

    from rekindle.device import select_device

    monkeypatch.setattr(program, "source_text", lambda stem: {"shift": TEMPLATE}[stem])
    monkeypatch.setenv("REKINDLE_CACHE_DIR", str(tmp_path))
    _log.warn_once.cache_clear()
    device = select_device().opencl()
    return module.Compiler(cl.Context([device]), device)


def shifted(compiler: module.Compiler, *offsets: str) -> list[list[int]]:
    import numpy as np
    import pyopencl as cl

    queue = cl.CommandQueue(compiler.context)
    results = []
    for offset in offsets:
        x = np.arange(4, dtype=np.int32)
        buffer = cl.Buffer(compiler.context, cl.mem_flags.COPY_HOST_PTR, hostbuf=x)
        kernel = compiler.kernel(launch(offset))
        kernel.set_args(buffer)
        cl.enqueue_nd_range_kernel(queue, kernel, (4,), None)
        cl.enqueue_copy(queue, x, buffer)
        results.append(x.tolist())
    return results


def test_specialisations_live_side_by_side_in_one_program(fresh: module.Compiler) -> None:
    fresh.prepare([launch("10"), launch("20")])
    assert shifted(fresh, "10", "20") == [[10, 11, 12, 13], [20, 21, 22, 23]]
    assert len({id(p) for p in fresh._programs.values()}) == 1


def test_a_second_process_reads_the_binary(fresh: module.Compiler, tmp_path: Path) -> None:
    fresh.prepare([launch("10")])
    files = list(tmp_path.glob("kernels/*.bin"))
    assert len(files) == 1
    before = files[0].stat().st_mtime_ns
    again = module.Compiler(fresh.context, fresh.device)
    again.prepare([launch("10")])
    assert shifted(again, "10") == [[10, 11, 12, 13]]
    assert files[0].stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-7], lambda b: b[:40] + b"\0" + b[41:], lambda _: b""]
)
def test_a_damaged_binary_is_built_anew(
    fresh: module.Compiler, tmp_path: Path, damage: object
) -> None:
    fresh.prepare([launch("10")])
    (file,) = tmp_path.glob("kernels/*.bin")
    intact = file.read_bytes()
    file.write_bytes(damage(intact))  # type: ignore[operator]
    again = module.Compiler(fresh.context, fresh.device)
    again.prepare([launch("10")])
    assert shifted(again, "10") == [[10, 11, 12, 13]]
    assert len(file.read_bytes()) > 40


def test_a_cache_that_is_no_folder_warns_once(
    fresh: module.Compiler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("REKINDLE_CACHE_DIR", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "rekindle"):
        fresh.prepare([launch("10")])
        fresh.prepare([launch("20")])
    assert shifted(fresh, "10", "20") == [[10, 11, 12, 13], [20, 21, 22, 23]]
    written = [r for r in caplog.records if "not cached" in r.message]
    assert len(written) == 1


def test_a_full_disk_leaves_no_file_behind(
    fresh: module.Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fdopen", full)
    fresh.prepare([launch("10")])
    assert shifted(fresh, "10") == [[10, 11, 12, 13]]
    assert list(tmp_path.glob("kernels/*")) == []


def test_a_kernel_that_does_not_compile_says_so(
    fresh: module.Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "source_text", lambda _: "__kernel void NAME(shift)( { }")
    with pytest.raises(KernelError, match="did not compile"):
        fresh.prepare([launch("10")])


def test_what_templates_have_in_common_is_included() -> None:
    """Textually, each where the line stands, and nothing is left for the driver to look for."""
    folder = Path(kernels.__file__).parent
    for path in folder.glob("*.cl"):
        assert "#include" not in kernels.source_text(path.stem), path.name
    vectors = (folder / "_vectors.cl").read_text(encoding="utf-8")
    assert vectors in kernels.source_text("conv_tiled")
    assert vectors not in kernels.source_text("conv_lanes")
