"""Pooling against the definition in NumPy, in every layout, on every target PoCL can run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_harness import (
    CPU8,
    CPU16,
    GCN,
    Case,
    chosen,
    pocl_device,
    run_case,
    run_on_rusticl,
    value,
)  # fmt: skip

from rekindle._types import DType
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall

pytestmark = pytest.mark.opencl
Array = np.ndarray[Any, np.dtype[Any]]


def reference(x: Array, out: Sequence[int], p: dict[str, Any]) -> Array:
    """Window by window, element by element."""
    rank = x.ndim - 2
    begin, finish = p["pads"][:rank], p["pads"][rank:]
    y = np.empty((*x.shape[:2], *out), x.dtype if p["kind"] == "max" else np.float64)
    for position in np.ndindex(*out):
        taps = [
            [i * s - b + k * d for k in range(n)]
            for i, s, b, n, d in zip(
                position, p["strides"], begin, p["kernel"], p["dilations"], strict=True
            )
        ]
        real = [[t for t in axis if 0 <= t < n] for axis, n in zip(taps, x.shape[2:], strict=True)]
        padded = [
            [t for t in axis if t < n + e]
            for axis, n, e in zip(taps, x.shape[2:], finish, strict=True)
        ]
        window = [x[(..., *at)] for at in itertools.product(*real)]
        if p["kind"] == "max":
            lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
            empty = np.full(x.shape[:2], lowest, x.dtype)
            y[(..., *position)] = np.max([empty, *window], axis=0)
        else:
            count = np.prod([len(a) for a in (padded if p["count_include_pad"] else real)])
            with np.errstate(invalid="ignore"):
                y[(..., *position)] = np.sum(window, axis=0, dtype=np.float64) / count
    return y


def make(
    shape: Sequence[int], kernel: Sequence[int], kind: str = "max", *, block: int = 0,
    strides: Sequence[int] = (), pads: Sequence[int] = (), dilations: Sequence[int] = (),
    ceil: bool = False, include: bool = False, target: Any = CPU8, dtype: Any = np.float32,
) -> tuple[Case, Array]:  # fmt: skip
    rng = np.random.default_rng(sum(shape))
    x = (rng.standard_normal(shape) * 60).astype(dtype)
    rank = len(kernel)
    params = {
        "kind": kind, "kernel": tuple(kernel), "strides": tuple(strides) or (1,) * rank,
        "pads": tuple(pads) or (0,) * 2 * rank, "dilations": tuple(dilations) or (1,) * rank,
        "count_include_pad": include,
    }  # fmt: skip
    out = []
    for i in range(rank):
        extent = (params["kernel"][i] - 1) * params["dilations"][i] + 1
        room = shape[2 + i] + params["pads"][i] + params["pads"][rank + i] - extent
        steps = -(-room // params["strides"][i]) if ceil else room // params["strides"][i]
        # ONNX: a window that would start beyond the input and its padding in front is left out.
        if ceil and steps * params["strides"][i] >= shape[2 + i] + params["pads"][i]:
            steps -= 1
        out.append(steps + 1)
    y = Value("y", value("x", x).dtype, (*shape[:2], *out), value("", shape, block).layout)
    call = LogicalCall("pool", (value("x", x, block),), y, params, "p")
    return Case("pool", call, {"x": x}, {}, target), reference(x, out, params)


def check(case: Case, expected: Array) -> None:
    agree(run_case(case, pocl_device()), expected)


def agree(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def shapes(name: str, *args: Any, **options: Any) -> Any:
    return pytest.param(args, options, id=name)


PLANAR = [
    shapes("3x3 stride 2", (2, 19, 9, 11), (3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
    shapes("2x2 rounded up", (1, 16, 5, 7), (2, 2), strides=(2, 2), ceil=True),
    shapes("dilated, uneven", (1, 3, 13, 9), (2, 3), strides=(1, 2), dilations=(3, 2),
           pads=(0, 2, 1, 1)),
    shapes("one pixel", (3, 5, 1, 1), (1, 1)),
    shapes("stride above kernel", (1, 4, 13, 13), (1, 2), strides=(5, 4)),
    shapes("everything", (2, 33, 7, 7), (7, 7)),
    shapes("all in the padding", (1, 5, 2, 2), (1, 2), pads=(1, 2, 1, 2)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "block"), [(CPU8, 16), (CPU16, 16), (GCN, 4), (CPU8, 0), (GCN, 0)]
)
@pytest.mark.parametrize(("args", "options"), PLANAR)
def test_planar(args: Any, options: Any, target: Any, block: int) -> None:
    for kind, include in (("max", False), ("average", True)):
        check(*make(*args, kind, include=include, block=block, target=target, **options))


@pytest.mark.parametrize("target", [CPU8, GCN])
@pytest.mark.parametrize(
    ("args", "options"),
    [
        shapes("1-D", (2, 3, 17), (4,), strides=(3,), pads=(1, 2), ceil=True),
        shapes("3-D", (1, 2, 4, 5, 6), (2, 3, 2), strides=(1, 2, 2), pads=(1, 1, 0, 0, 1, 1)),
    ],
)
def test_one_and_three_axes(args: Any, options: Any, target: Any) -> None:
    for kind in ("max", "average"):
        check(*make(*args, kind, target=target, **options))


def test_average_divisor_stops_at_the_padding() -> None:
    """Five elements, windows of four every three: the last holds two, or three with its pad."""
    for include, pads, last in ((True, (0, 0), 3.5), (True, (0, 1), 7 / 3), (False, (0, 1), 3.5)):
        case, _ = make(
            (1, 1, 5), (4,), "average", strides=(3,), pads=pads, ceil=True, include=include
        )
        case.feeds["x"][:] = np.arange(5)
        assert run_case(case, pocl_device())[0, 0].tolist() == pytest.approx([1.5, last])


def test_largest_byte() -> None:
    for dtype in (np.int8, np.uint8):
        case, expected = make((1, 3, 5, 6), (3, 2), pads=(1, 0, 1, 1), dtype=dtype)
        np.testing.assert_array_equal(run_case(case, pocl_device()), expected)


@pytest.mark.parametrize(("target", "block"), [(CPU8, 16), (CPU16, 16), (GCN, 4), (CPU8, 0)])
def test_nan_wins_and_infinities_count(target: Any, block: int) -> None:
    case, _ = make((1, 3, 4, 5), (2, 2), block=block, target=target)
    x = case.feeds["x"]
    x[0, 0, 1, 1] = x[0, 1, 0, 0] = x[0, 2, 3, 4] = np.nan
    x[0, 0, 3] = -np.inf
    x[0, 1, 3, 3] = np.inf
    expected = reference(x, case.call.output.static_shape[2:], dict(case.call.params))
    np.testing.assert_array_equal(run_case(case, pocl_device()), expected)
    assert np.isnan(expected).any()


@settings(max_examples=25)
@given(st.data())
def test_any_window(data: st.DataObject) -> None:
    """Sizes and windows are run-time numbers: no example compiles anything new."""
    kernel, strides, dilations = (
        data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4))) for _ in range(3)
    )
    pads = data.draw(st.tuples(*[st.integers(0, 3)] * 4))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = [
        data.draw(st.integers(max(1, e - pads[i] - pads[2 + i]), 13)) for i, e in enumerate(extent)
    ]
    case, expected = make(
        (1, data.draw(st.integers(1, 18)), *size), kernel, strides=strides, pads=pads,
        dilations=dilations, block=16,
    )  # fmt: skip
    np.testing.assert_array_equal(run_case(case, pocl_device()), expected)


def test_what_it_does_not_take() -> None:
    case, _ = make((1, 3, 4, 4), (2, 2), dtype=np.int8)
    assert chosen(case.call, {}, CPU8) == "pool"
    average = LogicalCall("pool", case.call.inputs, case.call.output, {"kind": "average"})
    assert chosen(average, {}, CPU8) is None
    half = Value("y", DType.FLOAT16, case.call.output.shape)
    assert chosen(LogicalCall("pool", case.call.inputs, half, case.call.params), {}, CPU8) is None


def test_rusticl(tmp_path: Path) -> None:
    made = [
        make(*p.values[0], kind, block=block, target=GCN, **p.values[1])
        for p in PLANAR for kind in ("max", "average") for block in (0, 4)
    ]  # fmt: skip
    results = run_on_rusticl([case for case, _ in made], tmp_path)
    for found, (_, expected) in zip(results, made, strict=True):
        agree(found, expected)
