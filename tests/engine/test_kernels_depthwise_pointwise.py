"""A depthwise convolution and the 1 x 1 one behind it in one launch, against both in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conv_cases import Step, agree, chain, reference
from kernel_harness import GCN, Array, Case, chosen, pocl_device, run_case, run_on_rusticl

from rekindle._types import DType, Layout
from rekindle.engine.kernels import REGISTRY, Context
from rekindle.graph.expr import Arg, Expr, maximum, minimum, sigmoid
from rekindle.graph.ir import Value

pytestmark = pytest.mark.opencl
RX580 = replace(GCN, compute_units=36)
PAIR = "depthwise_pointwise_lanes"
CLIP: Expr = minimum(maximum(Arg(0), 0.0), 6.0)


def clip(x: Array) -> Array:
    return np.clip(x, 0.0, 6.0)


def pair(
    x_shape: Sequence[int], window: Sequence[int], m: int, *, bias: bool = True,
    operands: Sequence[str] = (), epilogue: Expr | None = None,
    end: Callable[..., Array] = lambda sums: sums, dtype: Any = np.float32, target: Any = GCN,
    **numbers: Any,
) -> tuple[Case, Array]:  # fmt: skip
    """Depthwise with a clip behind it, and the product of channels."""
    rng = np.random.default_rng((*x_shape, *window, m))

    def draw(*shape: int, kind: Any = np.float32) -> Array:
        return rng.standard_normal(shape).astype(kind)

    c, rank = x_shape[1], len(window)
    x = draw(*x_shape, kind=dtype)
    taps = Step(draw(c, 1, *window), draw(c), CLIP, clip, numbers={"group": c, **numbers})
    p = taps.params()
    space = reference(x, taps.w, None, p["strides"], p["pads"], p["dilations"], c).shape
    extra = tuple(
        draw(space[0], m, *space[2:], kind=dtype) if kind == "same" else draw(*[1] * (rank + 2))
        for kind in operands
    )
    product = Step(draw(m, c, *[1] * rank), draw(m) if bias else None, epilogue, end, extra)
    return chain(x, (taps, product), 4, target, PAIR)


def shapes(name: str, x: Sequence[int], window: Sequence[int], m: int, **options: Any) -> Any:
    return pytest.param(x, window, m, options, id=name)


PAIRS = [
    shapes("3x3, two images", (2, 24, 9, 11), (3, 3), 16, pads=(1, 1, 1, 1)),
    shapes("channels 19 to 33, stride 2", (1, 19, 14, 15), (3, 3), 33, pads=(0, 0, 1, 1),
           strides=(2, 2)),
    shapes("channels 33 to 1", (1, 33, 5, 7), (3, 3), 1, pads=(1, 1, 1, 1), bias=False),
    shapes("one pixel", (3, 17, 1, 1), (3, 3), 64, pads=(1, 1, 1, 1)),
    shapes("dilated, uneven", (1, 16, 13, 17), (2, 3), 20, pads=(0, 2, 3, 1), dilations=(3, 2),
           strides=(1, 3)),
    shapes("1-D", (2, 20, 40), (9,), 7, pads=(4, 4)),
    shapes("one tap", (1, 13, 6, 5), (1, 1), 40),
    shapes("windows wholly in the padding", (1, 16, 3, 2), (2, 2), 5, pads=(4, 3, 5, 4),
           strides=(3, 2)),
    shapes("long sums in slices", (1, 260, 3, 5), (3, 3), 70, pads=(1, 1, 1, 1), target=RX580),
]  # fmt: skip


@pytest.mark.parametrize(("x", "window", "m", "options"), PAIRS)
def test_pair(x: Sequence[int], window: Sequence[int], m: int, options: Any) -> None:
    case, expected = pair(x, window, m, **options)
    assert chosen(case.call, case.constants, case.target) == PAIR
    agree(run_case(case, pocl_device()), expected)


def ended(channels: int = 19, **options: Any) -> tuple[Case, Array]:
    """A residual and a factor of one element; sigmoid(0) is not 0, but padded channels must be."""
    return pair(
        (2, channels, 7, 6), (3, 3), 18, pads=(1, 1, 1, 1), operands=("same", "one"),
        epilogue=sigmoid(Arg(0) + Arg(1)) * Arg(2),
        end=lambda sums, residual, factor: factor / (1 + np.exp(-(sums + residual))), **options,
    )  # fmt: skip


@pytest.mark.parametrize(("channels", "launches"), [(19, 1), (162, 2)], ids=["whole", "in slices"])
def test_what_follows_the_second_sum(channels: int, launches: int) -> None:
    case, expected = ended(channels, target=RX580)
    made = REGISTRY.get(PAIR).launches(case.call, Context(RX580, case.constants.get))
    assert len(made) == launches
    agree(run_case(case, pocl_device()), expected)


def test_half_values_are_rounded_at_the_end_only() -> None:
    case, expected = ended(dtype=np.float16)
    found = run_case(case, pocl_device())
    assert found.dtype == np.float16
    agree(found, expected, within=1e-3)


def test_epilogue_of_padded_channels_that_is_no_number() -> None:
    """0 / 0 in the three channels past C of the last block: no sum may have them."""
    rng = np.random.default_rng(7)
    x, taps = rng.uniform(1, 2, (1, 5, 4, 6)), rng.uniform(1, 2, (5, 1, 3, 3))
    w = rng.standard_normal((6, 5, 1, 1)).astype(np.float32)
    same = Step(
        taps.astype(np.float32), None, Arg(0) / Arg(0), lambda s: s / s, numbers={"group": 5}
    )
    case, expected = chain(x.astype(np.float32), (same, Step(w)), 4, GCN, PAIR)
    agree(run_case(case, pocl_device()), expected)


def test_nan_and_infinity_come_through() -> None:
    case, _ = pair((2, 19, 7, 6), (3, 3), 6, pads=(1, 1, 1, 1), bias=False)
    first, second = case.call.parts
    plain = replace(first, params={**first.params, "epilogue": None})
    case = replace(case, call=replace(case.call, parts=(plain, second)))
    case.feeds["x"][0, 0, 2, 2] = np.nan
    case.feeds["x"][1, 0, 3, 3] = np.inf
    p = first.params
    with np.errstate(invalid="ignore"):
        numbers = (p["strides"], p["pads"], p["dilations"], p["group"])
        between = reference(case.feeds["x"], case.constants["w0"], case.constants["b0"], *numbers)
        expected = reference(between, case.constants["w1"], None, (1, 1), (0,) * 4, (1, 1), 1)
    found = run_case(case, pocl_device())
    assert np.isnan(found).any()
    assert np.isinf(found).any()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(found[np.isinf(found)], expected[np.isinf(expected)])
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("why", "case"),
    [
        ("a window of 25 taps", pair((1, 16, 9, 9), (5, 5), 16, pads=(2, 2, 2, 2))),
        ("a processor", pair((1, 16, 9, 9), (3, 3), 16, target=replace(GCN, family="cpu"))),
        ("so many outputs that the sums made anew cost more than they save",
         pair((8, 576, 28, 28), (3, 3), 576, pads=(1, 1, 1, 1), target=RX580)),
    ],
    ids=lambda p: p if isinstance(p, str) else "",
)  # fmt: skip
def test_what_it_leaves_to_others(why: str, case: tuple[Case, Array]) -> None:
    assert chosen(case[0].call, case[0].constants, case[0].target) is None, why


def test_an_operand_between_is_left_to_others() -> None:
    case, _ = pair((1, 16, 9, 9), (3, 3), 16)
    first, second = case.call.parts
    extra = Value("e", DType.FLOAT32, first.output.static_shape, Layout(4))
    read = replace(first, inputs=(*first.inputs, extra))
    call = replace(case.call, parts=(read, second))
    assert chosen(case.call, case.constants, GCN) == PAIR
    assert chosen(call, case.constants, GCN) is None


def test_rusticl(tmp_path: Path) -> None:
    """On the front-end that owners of a card use."""
    made = [pair(*p.values[:3], **p.values[3]) for p in PAIRS]
    made += [ended(162, target=RX580)]
    results = run_on_rusticl([case for case, _ in made], tmp_path)
    for found, (_, expected) in zip(results, made, strict=True):
        agree(found, expected)
