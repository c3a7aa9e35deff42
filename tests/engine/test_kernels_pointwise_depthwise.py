"""A 1 x 1 convolution and the depthwise one behind it in one launch, against both in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conv_cases import Step, chain, check
from kernel_harness import CPU8, CPU16, Array, Case, chosen, pocl_device, run_case

from rekindle._types import Target
from rekindle.engine.kernels import pointwise_depthwise_tiled as spec
from rekindle.graph.decode import Decode
from rekindle.graph.expr import Arg, maximum, minimum, sigmoid

pytestmark = pytest.mark.opencl
KERNEL = "pointwise_depthwise_tiled"

PLAIN: Any = (None, lambda sums: sums)
ADDED: Any = (maximum(Arg(0) + Arg(1), 0.0), lambda sums, residual: np.maximum(sums + residual, 0))
MIDDLES: dict[str, Any] = {
    "none": PLAIN,
    "relu6": (minimum(maximum(Arg(0), 0.0), 6.0), lambda v: np.clip(v, 0, 6)),
    "swish": (Arg(0) * sigmoid(Arg(0)), lambda v: v / (1 + np.exp(-v))),
}


def make(
    x_shape: tuple[int, int, int, int], m: int, kernel: tuple[int, int], *,
    strides: tuple[int, int] = (1, 1), pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    middle: str = "relu6", residual: bool = False, bias: bool = True, target: Target = CPU8,
    dtype: Any = np.float32, int8: bool = False,
) -> tuple[Case, Array]:  # fmt: skip
    """A case and what it gives; with `int8` the 1 x 1 weights are integers with a scale each."""
    rng = np.random.default_rng(m + sum(x_shape))

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    w, decode = draw(m, x_shape[1], 1, 1), None
    if int8:
        w = rng.integers(-127, 128, w.shape).astype(np.int8)
        decode = Decode(rng.uniform(0.005, 0.02, (m, 1, 1, 1)).astype(np.float32))
    x, biases = draw(*x_shape).astype(dtype), [draw(m) if bias else None for _ in range(2)]
    size = [
        (x_shape[2 + i] + pads[i] + pads[2 + i] - kernel[i]) // strides[i] + 1 for i in range(2)
    ]
    added = (draw(x_shape[0], m, *size).astype(dtype),) if residual else ()
    numbers = {"strides": strides, "pads": pads, "group": m}
    steps = (
        Step(w, biases[0], *MIDDLES[middle], numbers={"decode": decode}),
        Step(draw(m, 1, *kernel), biases[1], *(ADDED if residual else PLAIN), added, numbers),
    )
    return chain(x, steps, 16, target, KERNEL)


@pytest.fixture
def every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also pairs so small that two kernels are as fast."""
    monkeypatch.setattr(spec, "_WORTH_BYTES", 0)
    monkeypatch.setattr(spec, "_SHORTEST_ROW", 1)


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
    check(*make((1, 19, 9, 13), 33, (3, 3), dtype=np.float16), within=1e-3)
    check(*make((1, 19, 9, 13), 33, (3, 3), int8=True))
    check(*make((1, 19, 9, 13), 33, (3, 3), dtype=np.float16, int8=True), within=1e-3)


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
