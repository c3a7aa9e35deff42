"""A 1 x 1 convolution and the depthwise one behind it in one launch, against both in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from kernel_harness import CPU8, CPU16, Case, chosen, pocl_device, run_case, value
from test_kernels_conv import reference

from rekindle._types import Layout, Target
from rekindle.engine.kernels import pointwise_depthwise_tiled as spec
from rekindle.graph.decode import Decode
from rekindle.graph.expr import Arg, maximum, minimum, sigmoid
from rekindle.graph.ir import Value, dtype_of
from rekindle.graph.lowering import LogicalCall

pytestmark = pytest.mark.opencl
KERNEL = "pointwise_depthwise_tiled"
Array = np.ndarray[Any, np.dtype[Any]]
PAIR = tuple[Case, Array]

MIDDLES = {
    "none": (None, lambda v: v),
    "relu6": (minimum(maximum(Arg(0), 0.0), 6.0), lambda v: np.clip(v, 0, 6)),
    "swish": (Arg(0) * sigmoid(Arg(0)), lambda v: v / (1 + np.exp(-v))),
}


def make(
    x_shape: tuple[int, int, int, int], m: int, kernel: tuple[int, int], *,
    strides: tuple[int, int] = (1, 1), pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    middle: str = "relu6", residual: bool = False, bias: bool = True, target: Target = CPU8,
    dtype: Any = np.float32, int8: bool = False,
) -> PAIR:  # fmt: skip
    """A case and what it gives; with `int8` the 1 x 1 weights are integers with a scale each."""
    rng = np.random.default_rng(m + sum(x_shape))
    x = rng.standard_normal(x_shape).astype(dtype)
    w = rng.standard_normal((m, x_shape[1], 1, 1)).astype(np.float32)
    decode = None
    if int8:
        w = rng.integers(-127, 128, w.shape).astype(np.int8)
        decode = Decode(rng.uniform(0.005, 0.02, (m, 1, 1, 1)).astype(np.float32))
    taps = rng.standard_normal((m, 1, *kernel)).astype(np.float32)
    b, tb = (rng.standard_normal(m).astype(np.float32) if bias else None for _ in range(2))
    wide = reference(x, decode(w) if decode else w, b, (1, 1), (0, 0, 0, 0), (1, 1), 1)
    expected = reference(MIDDLES[middle][1](wide), taps, tb, strides, pads, (1, 1), m)
    constants = {"w": w, "t": taps} | ({"b": b, "tb": tb} if bias else {})
    feeds = {"x": x}
    if residual:
        feeds["e"] = rng.standard_normal(expected.shape).astype(dtype)
        expected = np.maximum(expected + feeds["e"], 0)
    inner = Value("inner", dtype_of(x), wide.shape, Layout(16))
    y = Value("y", dtype_of(x), expected.shape, Layout(16))

    def conv(inputs: tuple[Value | None, ...], out: Value, **params: Any) -> LogicalCall:
        plain = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "group": 1}
        return LogicalCall("conv", inputs, out, plain | params, "c")

    w_value, t_value = value("w", w), value("t", taps)
    biases = (value("b", b), value("tb", tb)) if bias else (None, None)
    ends = (value("e", feeds["e"], 16),) if residual else ()
    first = conv(
        (value("x", x, 16), w_value, biases[0]), inner, epilogue=MIDDLES[middle][0], decode=decode
    )
    last = conv(
        (inner, t_value, biases[1], *ends), y, strides=strides, pads=pads, group=m,
        epilogue=maximum(Arg(0) + Arg(1), 0.0) if residual else None,
    )  # fmt: skip
    inputs = (*first.inputs, *last.inputs[1:])
    call = LogicalCall("chain", inputs, y, {}, "c", (first, last))
    return Case(KERNEL, call, feeds, constants, target), expected


@pytest.fixture
def every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also pairs so small that two kernels are as fast."""
    monkeypatch.setattr(spec, "_WORTH_BYTES", 0)
    monkeypatch.setattr(spec, "_SHORTEST_ROW", 1)


def check(case: Case, expected: Array, tolerance: float = 2e-5) -> None:
    found = run_case(case, pocl_device())
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.usefixtures("every_size")
@pytest.mark.parametrize(
    ("x", "m", "kernel", "options"),
    [
        pytest.param((1, 16, 13, 11), 32, (3, 3), {}, id="3x3"),
        pytest.param((2, 19, 12, 15), 33, (3, 3), {"strides": (2, 2)}, id="by two"),
        pytest.param((1, 5, 9, 23), 40, (5, 5), {"strides": (2, 1), "pads": (2,) * 4}, id="5x5"),
        pytest.param((2, 24, 7, 6), 20, (3, 3), {"residual": True, "bias": False}, id="residual"),
        pytest.param((1, 33, 5, 4), 17, (1, 3), {"pads": (0, 2, 0, 0), "middle": "none"}, id="row"),
        pytest.param((1, 16, 8, 7), 16, (2, 2), {"strides": (3, 3), "pads": (0,) * 4}, id="gaps"),
        pytest.param((1, 8, 3, 1), 16, (5, 5), {"pads": (4, 4, 3, 4)}, id="mostly padding"),
        pytest.param((3, 40, 31, 29), 48, (3, 3), {"middle": "swish"}, id="several jobs"),
    ],
)
def test_pairs(x: tuple[int, int, int, int], m: int, kernel: tuple[int, int], options: Any) -> None:
    check(*make(x, m, kernel, **options))


@pytest.mark.usefixtures("every_size")
def test_vectors_of_sixteen() -> None:
    check(*make((2, 19, 12, 15), 33, (3, 3), strides=(2, 2), target=CPU16, residual=True))


@pytest.mark.usefixtures("every_size")
def test_storage_types() -> None:
    """Narrow images round when they are stored; integers have a factor each."""
    check(*make((1, 19, 9, 13), 33, (3, 3), dtype=np.float16), tolerance=1e-3)
    check(*make((1, 19, 9, 13), 33, (3, 3), int8=True))
    check(*make((1, 19, 9, 13), 33, (3, 3), dtype=np.float16, int8=True), tolerance=1e-3)


@pytest.mark.usefixtures("every_size")
def test_nan_and_infinity_stay_where_they_belong() -> None:
    case, _ = make((1, 16, 9, 9), 16, (3, 3), middle="none")
    x = case.feeds["x"].copy()
    x[0, 3, 4, 4], x[0, 5, 0, 0] = np.nan, np.inf
    found = run_case(replace(case, feeds={"x": x}), pocl_device())
    touched = np.zeros((9, 9), bool)
    touched[3:6, 3:6] = touched[:2, :2] = True
    assert not np.isfinite(found[0][:, touched]).any()
    assert np.isfinite(found[0][:, ~touched]).all()


def refused(case: Case, **changes: Any) -> bool:
    first, last = case.call.parts
    params = changes.pop("params", {})
    call = replace(case.call, parts=(first, replace(last, params=last.params | params)))
    return chosen(call, case.constants, replace(case.target, **changes)) != KERNEL


def test_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only images large enough, on processors, without dilation, of rows that fit the ring."""
    case, _ = make((1, 3, 57, 61), 40, (3, 3))
    assert not refused(case)
    assert refused(case, family="gcn")
    assert refused(case, params={"dilations": (2, 2)})
    assert refused(make((1, 3, 30, 31), 40, (3, 3))[0])
    assert refused(make((8, 3, 80, 14), 40, (3, 3))[0])
    assert not refused(make((1, 3, 9, 330), 64, (3, 3))[0])
    assert refused(make((1, 3, 9, 350), 64, (3, 3))[0])
    monkeypatch.setattr(spec, "_WORTH_BYTES", 1 << 40)
    assert refused(case)
