"""One process of startup.py: opens a model, runs it once, and prints how long each stage took.

    python benchmarks/startup_stages.py MODEL [--build together|singly|"singly, two threads"]

`read_s` is reading the file and its message into arrays once more, which is what no engine can do
without; with --build only the kernels of the model's plan are built.
"""

from __future__ import annotations

import time

BEGIN = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
from concurrent.futures import ThreadPoolExecutor  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402


def first_result(path: Path) -> dict[str, float]:
    from rekindle.runtime import open_session

    imported = time.perf_counter()
    session = open_session(path, provider="opencl")
    opened = time.perf_counter()
    session.run(_zeros(session.inputs))
    first = time.perf_counter()
    session.run(_zeros(session.inputs))
    second = time.perf_counter()
    plan = _plan(path)
    return {
        "import_s": imported - BEGIN,
        "open_s": opened - imported,
        "first_run_s": first - opened,
        "second_run_s": second - first,
        "ready_s": first - BEGIN,
        "read_s": _read_s(path),
        "launches": len(list(plan.launches())),
        "programs": len({(launch.kernel, launch.defines) for launch in plan.launches()}),
    }


def build(path: Path, way: str) -> dict[str, float]:
    from rekindle.device import select_device
    from rekindle.engine.compiler import compiler_for
    from rekindle.engine.kernels import Launch

    plan, compiler = _plan(path), compiler_for(select_device().opencl())
    first: dict[Any, Launch] = {}
    for launch in plan.launches():
        first.setdefault((launch.kernel, launch.defines), launch)
    start = time.perf_counter()
    if way == "together":
        compiler.prepare(first.values())
    else:
        with ThreadPoolExecutor(2 if "threads" in way else 1) as pool:
            list(pool.map(lambda launch: compiler.prepare([launch]), first.values()))
    return {"build_s": time.perf_counter() - start, "programs": len(first)}


def _plan(path: Path) -> Any:
    from rekindle.device import select_device
    from rekindle.graph import onnx_io, passes
    from rekindle.runtime.providers.opencl import plan_for

    graph = passes.run(onnx_io.load(path), passes.PORTABLE)
    shapes = {name: array.shape for name, array in _zeros(graph.input_specs()).items()}
    return plan_for(graph, select_device().target(), shapes)


def _read_s(path: Path) -> float:
    import onnx
    from onnx import numpy_helper

    start = time.perf_counter()
    model = onnx.load_from_string(path.read_bytes())
    for tensor in model.graph.initializer:
        numpy_helper.to_array(tensor)
    return time.perf_counter() - start


def _zeros(specs: Any) -> dict[str, Any]:
    import numpy as np

    return {
        spec.name: np.zeros([d if isinstance(d, int) else 1 for d in spec.shape], spec.dtype.value)
        for spec in specs
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--build", help="only build the kernels, this way")
    options = parser.parse_args()
    made = build(options.model, options.build) if options.build else first_result(options.model)
    print(json.dumps(made))
