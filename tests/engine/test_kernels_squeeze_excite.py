"""Squeeze and excite in one launch, against its definition in float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_harness import GCN, Array, Case, chosen, pocl_device, run_case, run_on_rusticl, value

from rekindle._types import Layout, Target
from rekindle.engine.kernels import REGISTRY, Context
from rekindle.graph.decode import Decode
from rekindle.graph.expr import Arg, maximum, sigmoid
from rekindle.graph.ir import Value, dtype_of
from rekindle.graph.lowering import LogicalCall

pytestmark = pytest.mark.opencl
RX580 = replace(GCN, compute_units=36)
KERNEL = "squeeze_excite_lanes"


def make(
    x_shape: tuple[int, ...], hidden: int, m: int | None = None, *, bias: bool = True,
    added: bool = False, dtype: Any = np.float32, weights: Any = np.float32, int8: bool = False,
    target: Target = GCN,
) -> tuple[Case, Array]:  # fmt: skip
    """A case and what it gives; the mean is part of it where x has more than one pixel.

    `m`: outputs, where they are not as many as x's channels; `added`: a residual at the end.
    """
    rng = np.random.default_rng((*x_shape, hidden))
    c, rank = x_shape[1], len(x_shape) - 2
    m, ones = c if m is None else m, (1,) * rank

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    x = (draw(*x_shape) + 0.25).astype(dtype)
    shapes = (hidden, c), (m, hidden)
    w1, w2 = ((draw(*s, *ones) / np.sqrt(s[1])).astype(weights) for s in shapes)
    b1, b2 = (draw(n) if bias else None for n in (hidden, m))
    decode = None
    if int8:
        w2 = rng.integers(-127, 128, w2.shape).astype(np.int8)
        decode = Decode(rng.uniform(0.005, 0.02, (m, 1, *ones)).astype(np.float32))
    given = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    constants = {name: array for name, array in given.items() if array is not None}
    residual = draw(x_shape[0], m, *ones).astype(dtype)
    feeds = {"x": x} | ({"e": residual} if added else {})

    means = x.astype(np.float64).reshape(*x_shape[:2], -1).mean(-1)
    inner = np.maximum(_product(means, w1, b1), 0)
    sums = _product(inner, decode(w2) if decode else w2, b2)
    if added:
        sums = sums + residual.reshape(sums.shape)
    expected = (1 / (1 + np.exp(-sums))).reshape(*sums.shape, *ones)

    def at(name: str, channels: int) -> Value:
        return Value(name, dtype_of(x), (x_shape[0], channels, *ones), Layout(4))

    plain = {"strides": ones, "pads": (0,) * (2 * rank), "dilations": ones, "group": 1}
    whole = value("x", x, 4)
    mean = at("mean", c) if means.size < x.size else whole
    biases = [value(n, given[n]) if bias else None for n in ("b1", "b2")]
    parts = (
        LogicalCall("conv", (mean, value("w1", w1), biases[0]), at("hidden", hidden),
                    {**plain, "epilogue": maximum(Arg(0), 0.0)}, "c"),
        LogicalCall("conv", (at("hidden", hidden), value("w2", w2), biases[1],
                    *((value("e", residual, 4),) if added else ())), at("y", m),
                    {**plain, "decode": decode,
                     "epilogue": sigmoid(Arg(0) + Arg(1)) if added else sigmoid(Arg(0))}, "c"),
    )  # fmt: skip
    if mean is not whole:
        axes = tuple(range(2, 2 + rank))
        pool = LogicalCall("reduce", (whole,), mean, {"kind": "mean", "axes": axes}, "c")
        parts = (pool, *parts)
    rest = (v for part in parts for v in part.inputs[1:])
    call = LogicalCall("chain", (whole, *rest), parts[-1].output, {}, "c", parts)
    return Case(KERNEL, call, feeds, constants, target), expected


def _product(values: Array, w: Array, bias: Array | None) -> Array:
    sums = values @ w.astype(np.float64).reshape(w.shape[0], -1).T
    return sums if bias is None else sums + bias


def agree(found: Array, expected: Array, tolerance: float = 2e-6) -> None:
    """Shares between 0 and 1."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance


CASES = [
    pytest.param((2, 19, 7, 9), 6, {}, id="channels cut, two images"),
    pytest.param((1, 33, 13, 17), 70, {"m": 5}, id="many lanes a channel"),
    pytest.param((1, 5, 2, 3), 1, {"bias": False}, id="fewer pixels than lanes"),
    pytest.param((1, 390, 3, 3), 17, {}, id="two lanes a channel"),
    pytest.param((1, 1021, 2, 1), 33, {}, id="one lane a channel"),
    pytest.param((3, 40, 1, 1), 300, {"added": True}, id="of one pixel, a residual"),
    pytest.param((2, 20, 37), 8, {}, id="one axis"),
    pytest.param((1, 9, 2, 3, 4), 4, {}, id="three axes"),
]


@pytest.mark.parametrize(("x", "hidden", "options"), CASES)
def test_excite(x: tuple[int, ...], hidden: int, options: Any) -> None:
    case, expected = make(x, hidden, **options)
    agree(run_case(case, pocl_device()), expected)


@pytest.mark.slow
def test_storage_types() -> None:
    narrow = {"dtype": np.float16, "weights": np.float16}
    case, expected = make((1, 24, 5, 7), 9, **narrow)
    found = run_case(case, pocl_device())
    assert found.dtype == np.float16
    agree(found, expected, tolerance=1e-3)
    case, expected = make((1, 24, 5, 7), 9, int8=True)
    agree(run_case(case, pocl_device()), expected)


def test_nan_and_infinity_stay_with_their_image() -> None:
    case, expected = make((3, 10, 4, 5), 6)
    case.feeds["x"][0, 3, 2, 2] = np.nan
    case.feeds["x"][1, 4, 0, 0] = np.inf
    found = run_case(case, pocl_device())
    assert np.isnan(found[0]).all()
    # An infinite mean is infinite hidden values or none; their sums are 0, 1 or no number.
    hidden = case.constants["w1"][:, 4, 0, 0] > 0
    some = case.constants["w2"][:, hidden, 0, 0]
    both = (some > 0).any(1) & (some < 0).any(1)
    np.testing.assert_array_equal(np.isnan(found[1]).reshape(-1), both)
    np.testing.assert_array_equal(found[1].reshape(-1)[~both], (some[~both] > 0).all(1))
    agree(found[2:], expected[2:])


@pytest.mark.parametrize(
    ("x", "hidden", "takes"),
    [
        pytest.param((1, 96, 14, 14), 24, True, id="a small image"),
        pytest.param((1, 144, 56, 56), 6, False, id="a large image: reduce makes the mean"),
        pytest.param((1, 144, 1, 1), 6, True, id="few weights"),
        pytest.param((1, 1280, 1, 1), 1000, False, id="more weights than a unit reads in time"),
        pytest.param((1, 1028, 1, 1), 4, False, id="more channels than lanes have"),
    ],
)
def test_what_is_faster_on_a_card(x: tuple[int, ...], hidden: int, takes: bool) -> None:
    case, _ = make(x, hidden, target=RX580)
    assert (chosen(case.call, case.constants, RX580) == KERNEL) == takes


def test_what_it_leaves_to_others() -> None:
    case, _ = make((1, 8, 5, 7), 4)
    pool, first, second = case.call.parts

    def takes(*parts: LogicalCall, target: Target = GCN) -> bool:
        call = replace(case.call, parts=parts, output=parts[-1].output)
        return chosen(call, case.constants, target) == KERNEL

    assert takes(pool, first, second)
    assert not takes(pool, first, second, target=replace(GCN, family="cpu"))
    assert not takes(pool, first)
    assert not takes(replace(pool, params={**pool.params, "kind": "max"}), first, second)
    assert not takes(replace(pool, params={**pool.params, "axes": (2,)}), first, second)
    rows = replace(second, output=replace(second.output, layout=Layout(0)))
    assert not takes(pool, first, rows)
    read = replace(first, inputs=(*first.inputs, first.output))
    assert not takes(pool, read, second)


def test_each_image_reads_the_weights() -> None:
    case, _ = make((2, 19, 7, 9), 6)
    (launch,) = REGISTRY.get(KERNEL).launches(case.call, Context(GCN, case.constants.get))
    x, weights, y = 2 * 20 * 63, 2 * 2 * 19 * 6, 2 * 20
    assert launch.bytes_moved == 4 * (x + weights + y)
    assert launch.global_size == (256, 2)


def test_rusticl(tmp_path: Path) -> None:
    """On the front-end that owners of a card use."""
    made = [make(*p.values[:2], **p.values[2]) for p in CASES]
    results = run_on_rusticl([case for case, _ in made], tmp_path)
    for found, (_, expected) in zip(results, made, strict=True):
        agree(found, expected)
