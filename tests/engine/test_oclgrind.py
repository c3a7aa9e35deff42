"""Every kernel on Oclgrind, a simulator that sees each access outside a buffer and each race.

On a card such an access changes other values, or ends the machine's graphics, and no comparison
of results need notice. So each value gets a buffer of exactly its size, and the kernels of every
family run the cases of the self-test there, in a process of its own: the loader reads which driver
to take at the first OpenCL call.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DRIVERS = ("/usr/lib/oclgrind/liboclgrind-rt-icd.so", "/usr/local/lib/liboclgrind-rt-icd.so")
TIME_LIMIT_S = 1800
WITNESS = "witness"


def simulated(tmp_path: Path, *args: str) -> tuple[str, str]:
    """What `_main(*args)` prints on Oclgrind, and what Oclgrind says of it."""
    driver = next((path for path in DRIVERS if Path(path).exists()), None)
    if driver is None:
        if os.environ.get("REKINDLE_REQUIRE_TOOLS", "0") not in ("", "0"):
            pytest.fail("Oclgrind is not installed (apt-get install oclgrind)")
        pytest.skip("Oclgrind is not installed (apt-get install oclgrind)")
    icd, log = tmp_path / "oclgrind.icd", tmp_path / "log"
    icd.write_text(driver)
    done = subprocess.run(
        [sys.executable, __file__, *args],
        env={
            **os.environ, "OCL_ICD_VENDORS": str(icd), "OCLGRIND_LOG": str(log),
            "OCLGRIND_DATA_RACES": "1",
            # Inlining a function with `restrict` gives an LLVM intrinsic that it does not know.
            "OCLGRIND_BUILD_OPTIONS": "-Drestrict=",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
            "REKINDLE_CACHE_DIR": str(tmp_path / "cache"),
        },
        capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout, log.read_text("utf-8", "replace") if log.exists() else ""


@pytest.mark.slow
def test_it_sees_a_kernel_that_does(tmp_path: Path) -> None:
    _, said = simulated(tmp_path, WITNESS)
    assert "Invalid write of size 4 at global memory address" in said


@pytest.mark.slow
@pytest.mark.parametrize("family", ["cpu8", "cpu16", "gpu"])
def test_no_kernel_leaves_its_buffers(family: str, tmp_path: Path) -> None:
    found, said = simulated(tmp_path, family)
    assert not said, said[:6000]
    assert int(found) > 50, "hardly a case ran"


def _witness(context: Any, queue: Any) -> None:
    import pyopencl as cl

    source = "__kernel void f(__global int *y) { y[get_global_id(0)] = 1; }"
    kernel = cl.Program(context, source).build().f
    buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE, 12)
    kernel(queue, (4,), None, buffer)
    queue.finish()


def _main(family: str, *names: str) -> int:
    """Run what fits the family, or these kernels alone; print how many cases that were."""
    import pyopencl as cl
    from kernel_harness import CPU8, CPU16, GCN

    from rekindle.engine import kernels
    from rekindle.engine.compiler import compiler_for

    (platform,) = cl.get_platforms()
    assert platform.name == "Oclgrind", platform.name
    (device,) = platform.get_devices()
    if family == WITNESS:
        context = cl.Context([device])
        _witness(context, cl.CommandQueue(context))
        return 0
    target = {"cpu8": CPU8, "cpu16": CPU16, "gpu": GCN}[family]
    ran = 0
    for name in names or kernels.REGISTRY.names():
        for case, made, expected in _cases(name, target):
            compiler_for(device).prepare(made.launches())
            error = _error(made, device, case, expected)
            assert error <= 2e-3, f"{name}, {case.name}: differs by {error}"
            ran += 1
    print(ran)
    return 0


def _cases(kernel: str, target: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Cases of the self-test, each value in an arena of its own, and what comes out rightly."""
    from rekindle.engine import selftest

    for case, made in selftest.plans(kernel, target):
        yield case, replace(made, memory=_apart(made)), selftest._expected(case)


def _apart(made: Any) -> Any:
    from rekindle.engine.kernels import Workspace
    from rekindle.engine.memory import MemoryPlan
    from rekindle.graph.ir import Value

    exact: dict[str, int] = {}
    for launch in made.launches():
        for arg in launch.args:
            if isinstance(arg, Value):
                exact[made.root(arg.name)] = max(arg.nbytes, 1)
            elif isinstance(arg, Workspace):
                exact[arg.label] = max(exact.get(arg.label, 1), arg.nbytes)
    sizes = {name: exact.get(name, made.memory.sizes[name]) for name in made.memory.sizes}
    ends = np.cumsum([0, *sizes.values()]).tolist()
    offsets = dict(zip(sizes, ends, strict=False))
    return MemoryPlan(offsets, sizes, tuple(sizes.values()), ends[-1])


def _error(made: Any, device: Any, case: Any, expected: Any) -> float:
    from rekindle.engine.single_node import as_stored, run_alone
    from rekindle.engine.weights import Weights
    from rekindle.graph.reference import difference

    found = run_alone(made, device, Weights(device), case.feeds)["y"]
    return difference(found, as_stored(expected, made.graph.values["y"].layout))


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
