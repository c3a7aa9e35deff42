"""What makes a start quick: no plan twice, filters in order at once, weights by several threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rekindle._registry import _entry_points
from rekindle.device import select_device
from rekindle.engine import weights
from rekindle.engine.kernels import Packed
from rekindle.engine.kernels.conv_winograd import _pack_filters
from rekindle.engine.weights import Weights
from rekindle.graph import onnx_io
from rekindle.runtime._options import Options
from rekindle.runtime.providers.opencl import OpenCLBackend, plan_for
from tests.engine.graphs import classifier, write


@pytest.mark.opencl
def test_the_plan_at_ones_is_not_made_again(tmp_path: Path) -> None:
    graph = onnx_io.load(write(classifier(), tmp_path))
    made: list[Any] = []

    def planner(*arguments: Any) -> Any:
        made.append(arguments[2])
        return plan_for(*arguments)

    backend = OpenCLBackend(graph, select_device(), Options(), "a test", planner=planner)
    x = np.random.default_rng(0).standard_normal((2, 3, 17, 19)).astype(np.float32)
    try:
        assert len(made) <= 1
        (first,) = backend.run({"x": x[:1]}).values()
        planned = len(made)
        assert planned <= 2, "once, or once at ones and once for this size"
        (both,) = backend.run({"x": x}).values()
        assert len(made) == planned + 1
        (again,) = backend.run({"x": x[:1]}).values()
        assert len(made) == planned + 1
    finally:
        backend.close()
    assert np.array_equal(first, again)
    np.testing.assert_allclose(both[:1], first, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize(("m", "c", "q"), [(1, 1, 1), (16, 16, 1), (127, 13, 2), (33, 200, 1)])
def test_filters_are_those_of_the_definition(m: int, c: int, q: int, tile: int) -> None:
    """G g G^T of each filter (Lavin and Gray, equation 8), in double, then by panels."""
    g = {
        2: [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]],
        4: [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]],
    }[tile]  # fmt: skip
    filters = np.random.default_rng(m).standard_normal((m, c, 3, 3)).astype(np.float32)
    packed = _pack_filters(filters, tile, q)
    points = (tile + 2) ** 2
    across, deep = 16 * q, -(-c // 16) * 16
    assert packed.shape == (points, -(-m // across), deep, across)
    expected = np.asarray(g) @ filters.astype(np.float64) @ np.asarray(g).T
    found = packed.transpose(1, 3, 2, 0).reshape(-1, deep, points)
    np.testing.assert_allclose(found[:m, :c], expected.reshape(m, c, points), rtol=2e-7, atol=1e-9)
    assert not found[m:].any()
    assert not found[:, c:].any()


@pytest.mark.opencl
def test_weights_by_threads_are_those_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyopencl as cl

    monkeypatch.setattr(weights, "_WORTH_THREADS", 1)
    device = select_device().opencl()
    arrays = [np.full(size, size, np.float32) for size in (1, 13, 127, 4096)]
    constants = [Packed(f"a{a.size}", a.nbytes, lambda a=a: a) for a in arrays]
    sent = Weights(device)
    try:
        sent.prepare(constants)
        assert sent.nbytes == sum(a.nbytes for a in arrays)
        queue = cl.CommandQueue(sent.context, device)
        for array, constant in zip(arrays, constants, strict=True):
            back = np.empty_like(array)
            cl.enqueue_copy(queue, back, sent.buffer(constant), is_blocking=True)
            assert np.array_equal(back, array)
        broken = Packed("broken", 4, lambda: 1 / 0)  # type: ignore[return-value,arg-type]
        with pytest.raises(ZeroDivisionError):
            sent.prepare([*constants, broken])
    finally:
        sent.release()


def test_installed_packages_are_looked_at_once() -> None:
    assert _entry_points() is _entry_points()
