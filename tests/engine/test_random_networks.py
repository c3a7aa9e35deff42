"""Random networks on the device, planned for each family, against ONNX Runtime.

What no test of a single kernel shows: fused epilogues, layouts that meet, memory that is shared.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_harness import CPU8, CPU16, GCN
from onnx import ModelProto
from random_networks import QUIET, networks
from small_models import onnx_runtime

from rekindle._types import Target
from rekindle.device import select_device
from rekindle.engine.executor import Executor
from rekindle.engine.plan import HostStep, plan
from rekindle.engine.weights import Weights
from rekindle.graph import onnx_io, passes
from rekindle.graph.infer import bind

pytestmark = pytest.mark.opencl
ON_RUSTICL = "rusticl"
TOLERANCE = 1e-3
TARGETS = (GCN,) if os.environ.get("REKINDLE_DEVICE") == ON_RUSTICL else (CPU8, CPU16, GCN)


def agrees(proto: ModelProto, feeds: Mapping[str, np.ndarray], target: Target) -> None:
    graph = passes.run(onnx_io.load_bytes(proto.SerializeToString()), passes.PORTABLE)
    bound = bind(graph, {name: array.shape for name, array in feeds.items()})
    made = plan(passes.run(bound, passes.DEVICE, target), target)
    assert not [s for s in made.steps if isinstance(s, HostStep)]
    handle = select_device().opencl()
    executor = Executor(made, handle, Weights(handle))
    try:
        found = executor.run(feeds)
        again = executor.run(feeds)
    finally:
        executor.release()
    for name, expected in onnx_runtime(proto, feeds).items():
        scale = max(float(np.max(np.abs(expected), initial=0)), 1e-3)
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=TOLERANCE * scale)
        np.testing.assert_array_equal(found[name], again[name])


@settings(max_examples=4, suppress_health_check=QUIET)
@given(networks(), st.sampled_from(TARGETS))
def test_the_device_agrees(network, target) -> None:
    agrees(*network, target)


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=QUIET)
@given(networks(), st.sampled_from(TARGETS))
def test_the_device_agrees_at_length(network, target) -> None:
    agrees(*network, target)


@pytest.mark.slow
def test_rusticl_agrees() -> None:
    """The test above once more, in a process whose device is Rusticl's."""
    here = {**os.environ, "RUSTICL_ENABLE": "llvmpipe", "REKINDLE_DEVICE": ON_RUSTICL}
    probe = "import rekindle.device as d; print([x.platform_name for x in d.list_devices()])"
    found = subprocess.run(
        [sys.executable, "-c", probe], env=here, capture_output=True, text=True, check=True
    )
    if ON_RUSTICL not in found.stdout:
        if os.environ.get("REKINDLE_REQUIRE_TOOLS", "0") not in ("", "0"):
            pytest.fail("Rusticl is not installed (mesa-opencl-icd)")
        pytest.skip("Rusticl is not installed (mesa-opencl-icd)")
    once = ["pytest", "-q", "-p", "no:cacheprovider", "-k", "at_length", __file__]
    done = subprocess.run(
        [sys.executable, "-m", *once],
        env=here, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert "1 passed" in done.stdout
