"""Convolution kernels against the definition in float64, on every target that PoCL can run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conv_cases import agree, check, reference
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
)

from rekindle._types import DType, Target
from rekindle.engine.kernels import REGISTRY, Context, Variant, conv_winograd
from rekindle.graph.expr import Arg, Cast, Expr, sigmoid
from rekindle.graph.lowering import LogicalCall

pytestmark = pytest.mark.opencl
Array = np.ndarray[Any, np.dtype[Any]]


RX580 = replace(GCN, compute_units=36)


def make(
    kernel: str, x_shape: Sequence[int], w_shape: Sequence[int], *, strides: Sequence[int] = (),
    pads: Sequence[int] = (), dilations: Sequence[int] = (), group: int = 1, bias: bool = True,
    blocks: tuple[int, int] = (0, 0), target: Any = CPU8, epilogue: Expr | None = None,
    operands: Sequence[str] = (),
) -> tuple[Case, Array]:  # fmt: skip
    """A case and its expected result; operands of the epilogue are "same" or "one"."""
    rng = np.random.default_rng(sum(x_shape) + sum(w_shape))
    rank = len(x_shape) - 2
    strides, dilations = tuple(strides) or (1,) * rank, tuple(dilations) or (1,) * rank
    pads = tuple(pads) or (0,) * (2 * rank)
    x = rng.standard_normal(x_shape, np.float32)
    w = rng.standard_normal(w_shape, np.float32)
    b = rng.standard_normal(w_shape[0], np.float32) if bias else None
    expected = reference(x, w, b, strides, pads, dilations, group)
    extra = {
        f"e{i}": rng.standard_normal(
            expected.shape if kind == "same" else (1,) * expected.ndim, np.float32
        )
        for i, kind in enumerate(operands)
    }
    inputs = (value("x", x, blocks[0]), value("w", w), value("b", b) if b is not None else None)
    ends = tuple(value(n, a, blocks[1] if a.size > 1 else 0) for n, a in extra.items())
    params = {
        "strides": strides, "pads": pads, "dilations": dilations, "group": group,
        "epilogue": epilogue,
    }  # fmt: skip
    call = LogicalCall("conv", inputs + ends, value("y", expected.shape, blocks[1]), params, "c")
    constants = {"w": w} | ({"b": b} if b is not None else {})
    return Case(kernel, call, {"x": x, **extra}, constants, target), expected


def shapes(name: str, x: Sequence[int], w: Sequence[int], **options: Any) -> Any:
    return pytest.param(x, w, options, id=name)


@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        shapes("1-D", (2, 3, 17), (5, 3, 4), pads=(3, 1), strides=(2,), dilations=(2,)),
        shapes("groups cut blocks", (2, 6, 7, 5), (9, 2, 3, 3), group=3, pads=(1, 0, 2, 1),
               blocks=(16, 16)),
        shapes("3-D", (1, 4, 5, 6, 7), (3, 4, 2, 3, 1), strides=(1, 2, 3)),
        shapes("row-major to blocked", (1, 13, 5, 5), (18, 13, 1, 1), blocks=(0, 4)),
        shapes("blocked to row-major", (1, 13, 5, 5), (3, 13, 5, 5), blocks=(4, 0)),
        shapes("kernel larger than x", (1, 2, 2, 1), (1, 2, 5, 4), pads=(2, 3, 2, 1), bias=False),
    ],
)  # fmt: skip
def test_direct(x: Sequence[int], w: Sequence[int], options: Any) -> None:
    check(*make("conv_direct", x, w, **options))


def test_direct_takes_computed_weights() -> None:
    case, expected = make("conv_direct", (1, 3, 4, 4), (2, 3, 3, 3))
    computed = Case(case.kernel, case.call, {**case.feeds, **case.constants})
    agree(run_case(computed, pocl_device()), expected)


DENSE = [
    shapes("3x3", (1, 16, 9, 11), (32, 16, 3, 3), pads=(1, 1, 1, 1)),
    shapes("pointwise", (2, 48, 5, 7), (64, 48, 1, 1)),
    shapes("one pixel", (3, 32, 1, 1), (48, 32, 1, 1)),
    shapes("one pixel, one channel", (1, 1, 1, 1), (1, 1, 1, 1), bias=False),
    shapes("channels 13 to 17", (2, 13, 6, 6), (17, 13, 3, 3), pads=(1, 1, 1, 1)),
    shapes("channels 127 to 3", (1, 127, 3, 5), (3, 127, 1, 1)),
    shapes("stride above kernel", (1, 16, 13, 11), (16, 16, 1, 1), strides=(2, 3)),
    shapes("asymmetric pads, dilations, strides", (1, 20, 13, 17), (20, 20, 3, 2),
           pads=(0, 2, 3, 1), dilations=(2, 3), strides=(2, 1)),
    shapes("kernel larger than x", (1, 16, 2, 3), (16, 16, 5, 7), pads=(3, 2, 2, 3)),
    shapes("groups", (2, 64, 5, 5), (32, 32, 3, 3), group=2, pads=(1, 1, 1, 1)),
    shapes("eight groups of 4, merged by fours", (2, 32, 3, 4), (32, 4, 3, 3), group=8),
    shapes("six groups of 3, merged into one", (1, 18, 3, 4), (30, 3, 2, 2), group=6),
    shapes("two filters a channel", (1, 32, 4, 4), (64, 1, 3, 3), group=32, bias=False),
    shapes("1-D", (2, 16, 29), (16, 16, 5), pads=(2, 2)),
    shapes("pointwise in 3-D", (1, 16, 3, 4, 5), (16, 16, 1, 1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("target", [CPU8, CPU16], ids=["8", "16"])
@pytest.mark.parametrize(("x", "w", "options"), DENSE)
def test_tiled(x: Sequence[int], w: Sequence[int], options: Any, target: Target) -> None:
    check(*make("conv_tiled", x, w, blocks=(16, 16), target=target, **options))


PACKED = [
    shapes("by two, channels 19 to 77", (2, 19, 9, 13), (77, 19, 1, 1), strides=(2, 2)),
    shapes("strides 3 and 1, two groups", (1, 64, 7, 5), (160, 32, 1, 1), strides=(3, 1), group=2),
    shapes("strides 1 and 4, dilated", (1, 33, 3, 127), (65, 33, 1, 1), strides=(1, 4),
           dilations=(2, 3)),
    shapes("one pixel is left", (3, 16, 3, 2), (80, 16, 1, 1), strides=(5, 2), bias=False),
    shapes("1-D", (2, 20, 29), (77, 20, 1), strides=(2,)),
    shapes("dense, many planes", (1, 250, 29, 31), (410, 250, 1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("target", [CPU8, CPU16], ids=["8", "16"])
@pytest.mark.parametrize(("x", "w", "options"), PACKED)
def test_tiled_from_packed_pixels(
    x: Sequence[int], w: Sequence[int], options: Any, target: Target
) -> None:
    case, expected = make("conv_tiled", x, w, blocks=(16, 16), target=target, **options)
    assert kernels_of(case) == ["conv_pack", "conv_tiled"]
    check(case, expected)


def test_variants_decide_whether_pixels_are_packed() -> None:
    """Of 8 blocks of outputs, 8 or 4 panels are worth it, 2 are not: all compute alike."""
    case, expected = make(
        "conv_tiled", (1, 20, 9, 13), (127, 20, 1, 1), strides=(2, 2), blocks=(16, 16)
    )
    for p, q, launches in ((5, 1, 2), (3, 2, 2), (1, 4, 1)):
        variant = (("P", p), ("Q", q), ("JOBS", 8))
        assert len(kernels_of(case, variant)) == launches
        agree(run_case(case, pocl_device(), variant), expected)


@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        shapes("two panels", (1, 16, 9, 9), (32, 16, 1, 1), strides=(2, 2)),
        shapes("padded", (1, 16, 9, 9), (80, 16, 1, 1), strides=(2, 2), pads=(0, 0, 1, 1)),
        shapes("nothing left out", (1, 16, 1, 1), (80, 16, 1, 1), strides=(2, 2)),
        shapes("few planes", (1, 240, 29, 31), (410, 240, 1, 1)),
        shapes("few panels", (1, 512, 56, 56), (112, 512, 1, 1)),
        shapes("small", (1, 256, 7, 7), (1024, 256, 1, 1)),
    ],
)
def test_pixels_are_not_packed(x: Sequence[int], w: Sequence[int], options: Any) -> None:
    case, _ = make("conv_tiled", x, w, blocks=(16, 16), **options)
    assert kernels_of(case) == ["conv_tiled"]


def kernels_of(case: Case, variant: Variant = ()) -> list[str]:
    """Sources of the launches that the case's kernel makes."""
    context = Context(case.target, case.constants.get, variant)
    return [x.kernel for x in REGISTRY.get(case.kernel).launches(case.call, context)]


WINOGRAD = [
    shapes("no whole tile", (1, 16, 9, 11), (32, 16, 3, 3), pads=(1, 1, 1, 1)),
    shapes("channels 13 to 17", (2, 13, 6, 6), (17, 13, 3, 3), pads=(1, 1, 1, 1)),
    shapes("many images of one pixel", (13, 32, 1, 1), (16, 32, 3, 3), pads=(1, 1, 1, 1)),
    shapes("uneven pads", (1, 20, 13, 7), (20, 20, 3, 3), pads=(0, 2, 3, 1), bias=False),
    shapes("no pads", (1, 127, 5, 8), (3, 127, 3, 3)),
]  # fmt: skip


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("target", [CPU8, CPU16], ids=["8", "16"])
@pytest.mark.parametrize(("x", "w", "options"), WINOGRAD)
def test_winograd(
    x: Sequence[int], w: Sequence[int], options: Any, target: Target, tile: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(conv_winograd, "_best_tile", lambda _: tile)
    check(*make("conv_winograd", x, w, blocks=(16, 16), target=target, **options))


WINOGRAD_LANES = [
    *WINOGRAD,
    shapes("one row of filters, stride 2 down", (2, 9, 8, 13), (11, 9, 1, 3), pads=(0, 1, 0, 1),
           strides=(2, 1)),
    shapes("five rows, dilated", (1, 6, 11, 5), (8, 6, 5, 3), pads=(4, 1, 4, 1), dilations=(2, 1)),
    shapes("long sums in slices", (1, 510, 6, 7), (30, 510, 3, 3), pads=(1, 1, 1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("x", "w", "options"), WINOGRAD_LANES)
def test_winograd_lanes(x: Sequence[int], w: Sequence[int], options: Any) -> None:
    check(*make("conv_winograd_lanes", x, w, blocks=(4, 4), target=RX580, **options))


@pytest.mark.parametrize(
    ("kernel", "block", "target"),
    [("conv_winograd", 16, CPU8), ("conv_winograd_lanes", 4, GCN)],
)
def test_winograd_lets_no_nan_vanish(kernel: str, block: int, target: Target) -> None:
    """It may spread over its tile; where the sum has one, there is one."""
    sizes = (1, 5, 9, 9), (19, 5, 3, 3)
    case, _ = make(kernel, *sizes, pads=(1, 1, 1, 1), blocks=(block, block), target=target)
    case.feeds["x"][0, 0, 2, 2] = np.nan
    found = run_case(case, pocl_device())
    assert np.isnan(found[0, :, 1:4, 1:4]).all()
    assert np.isfinite(found[0, :, 5:, 5:]).all()


STEM = [
    shapes("7x7 stride 2", (2, 3, 23, 29), (64, 3, 7, 7), pads=(3, 3, 3, 3), strides=(2, 2)),
    shapes("3x3", (1, 3, 8, 8), (24, 3, 3, 3), pads=(1, 1, 1, 1)),
    shapes("one channel, one column", (1, 1, 5, 1), (3, 1, 3, 3), pads=(1, 1, 1, 1), bias=False),
    shapes("kernel larger than x", (1, 2, 2, 3), (16, 2, 5, 7), pads=(3, 2, 2, 4)),
    shapes("dilated, uneven", (1, 4, 11, 19), (20, 4, 2, 3), pads=(0, 3, 2, 1), dilations=(3, 2)),
    shapes("1-D", (2, 3, 37), (16, 3, 8), strides=(4,), pads=(1, 2)),
]  # fmt: skip


@pytest.mark.parametrize("target", [CPU8, CPU16], ids=["8", "16"])
@pytest.mark.parametrize(("x", "w", "options"), STEM)
def test_stem(x: Sequence[int], w: Sequence[int], options: Any, target: Target) -> None:
    check(*make("conv_stem", x, w, blocks=(0, 16), target=target, **options))


DEPTHWISE = [
    shapes("3x3", (2, 32, 9, 11), (32, 1, 3, 3), pads=(1, 1, 1, 1)),
    shapes("3x3 stride 2, channels 19", (1, 19, 14, 14), (19, 1, 3, 3), pads=(0, 0, 1, 1),
           strides=(2, 2)),
    shapes("5x5 on 2x3", (1, 16, 2, 3), (16, 1, 5, 5), pads=(2, 2, 2, 2)),
    shapes("one pixel", (1, 17, 1, 1), (17, 1, 3, 3), pads=(1, 1, 1, 1), bias=False),
    shapes("dilated, uneven", (1, 16, 13, 17), (16, 1, 2, 3), pads=(0, 2, 3, 1),
           dilations=(3, 2), strides=(1, 3)),
    shapes("1-D, wide", (2, 20, 40), (20, 1, 15), pads=(7, 7)),
    shapes("windows wholly in the padding", (1, 16, 3, 2), (16, 1, 2, 2), pads=(4, 3, 5, 4),
           strides=(3, 2)),
]  # fmt: skip


@pytest.mark.parametrize("target", [CPU8, CPU16], ids=["8", "16"])
@pytest.mark.parametrize(("x", "w", "options"), DEPTHWISE)
def test_depthwise(x: Sequence[int], w: Sequence[int], options: Any, target: Target) -> None:
    group = x[1]
    check(*make("depthwise_tiled", x, w, group=group, blocks=(16, 16), target=target, **options))


@pytest.mark.parametrize(("x", "w", "options"), DENSE)
def test_lanes(x: Sequence[int], w: Sequence[int], options: Any) -> None:
    check(*make("conv_lanes", x, w, blocks=(4, 4), target=GCN, **options))


@pytest.mark.parametrize(("x", "w", "options"), STEM)
def test_lanes_from_row_major(x: Sequence[int], w: Sequence[int], options: Any) -> None:
    check(*make("conv_lanes", x, w, blocks=(0, 4), target=GCN, **options))


SLICES = [
    shapes("pointwise", (1, 260, 3, 5), (19, 260, 1, 1)),
    shapes("3x3", (2, 133, 7, 5), (34, 133, 3, 3), pads=(1, 1, 1, 1)),
    shapes("groups", (1, 256, 5, 3), (48, 128, 3, 1), group=2),
]


def in_slices(x: Sequence[int], w: Sequence[int], options: Any) -> tuple[Case, Array]:
    """A few pixels of many channels on a card of 36 units: with what follows the sum."""
    epilogue = sigmoid(Arg(0) + Arg(1)) * Arg(2)
    options = options | {"epilogue": epilogue, "operands": ("same", "one")}
    case, sums = make("conv_lanes", x, w, blocks=(4, 4), target=RX580, **options)
    assert kernels_of(case) == ["conv_lanes", "conv_sum"]
    residual, factor = (case.feeds[k].astype(np.float64) for k in ("e0", "e1"))
    return case, factor / (1 + np.exp(-(sums + residual)))


@pytest.mark.parametrize(("x", "w", "options"), SLICES)
def test_lanes_in_slices(x: Sequence[int], w: Sequence[int], options: Any) -> None:
    check(*in_slices(x, w, options))


@pytest.mark.parametrize(("x", "w", "options"), DEPTHWISE)
def test_depthwise_lanes(x: Sequence[int], w: Sequence[int], options: Any) -> None:
    options = options | {"group": x[1], "blocks": (4, 4), "target": GCN}
    check(*make("depthwise_lanes", x, w, **options))


KERNELS = [
    shapes("conv_direct", (2, 5, 7, 6), (7, 5, 3, 3)),
    shapes("conv_tiled", (2, 5, 7, 6), (19, 5, 3, 3), blocks=(16, 16)),
    shapes("conv_stem", (2, 3, 7, 6), (19, 3, 3, 3), blocks=(0, 16)),
    shapes("conv_winograd", (2, 5, 7, 6), (19, 5, 3, 3), blocks=(16, 16)),
    shapes("depthwise_tiled", (2, 19, 7, 6), (19, 1, 3, 3), group=19, blocks=(16, 16)),
    shapes("conv_lanes", (2, 5, 7, 6), (19, 5, 3, 3), blocks=(4, 4), target=GCN),
    shapes("conv_winograd_lanes", (2, 5, 7, 6), (19, 5, 3, 3), blocks=(4, 4), target=GCN),
    shapes("depthwise_lanes", (2, 19, 7, 6), (19, 1, 3, 3), group=19, blocks=(4, 4), target=GCN),
]

PACKED_TOO = shapes(
    "conv_tiled packed", (2, 5, 7, 6), (70, 5, 1, 1), blocks=(16, 16), strides=(2, 2)
)


@pytest.mark.parametrize(("x", "w", "options"), [*KERNELS, PACKED_TOO])
def test_epilogue(
    x: Sequence[int], w: Sequence[int], options: Any, request: pytest.FixtureRequest
) -> None:
    """A residual and a factor of one element; sigmoid(0) is not 0, but padded channels must be."""
    epilogue = sigmoid(Arg(0) + Arg(1)) * Arg(2)
    options = options | {"epilogue": epilogue, "operands": ("same", "one")}
    case, sums = make(request.node.callspec.id.split()[0], x, w, **options)
    residual, factor = (case.feeds[k].astype(np.float64) for k in ("e0", "e1"))
    check(case, factor / (1 + np.exp(-(sums + residual))))


@pytest.mark.parametrize(("x", "w", "options"), [p for p in KERNELS if "winograd" not in p.id])
def test_nan_and_infinity_come_through(
    x: Sequence[int], w: Sequence[int], options: Any, request: pytest.FixtureRequest
) -> None:
    case, _ = make(request.node.callspec.id, x, w, bias=False, pads=(1, 1, 1, 1), **options)
    case.feeds["x"][0, 0, 2, 2] = np.nan
    case.feeds["x"][1, 0, 3, 3] = np.inf
    found = run_case(case, pocl_device())
    p = case.call.params
    with np.errstate(invalid="ignore"):
        expected = reference(
            case.feeds["x"], case.constants["w"], None, p["strides"], p["pads"], p["dilations"],
            p["group"],
        )  # fmt: skip
    assert np.isnan(found).any()
    assert np.isinf(found).any()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(found[np.isinf(found)], expected[np.isinf(expected)])
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "x", "w", "options"),
    [
        ("conv_tiled", (1, 32, 4, 4), (16, 32, 3, 3), {"blocks": (16, 16)}),
        ("conv_winograd", (1, 64, 28, 28), (64, 64, 3, 3), {"blocks": (16, 16)}),
        ("conv_tiled", (1, 64, 28, 28), (64, 64, 3, 3), {"blocks": (16, 16), "strides": (2, 2)}),
        ("conv_stem", (1, 3, 8, 8), (16, 3, 3, 3), {"blocks": (0, 16)}),
        ("depthwise_tiled", (1, 32, 4, 4), (32, 1, 3, 3), {"blocks": (16, 16), "group": 32}),
        ("conv_lanes", (1, 32, 4, 4), (16, 32, 3, 3), {"blocks": (4, 4), "target": GCN}),
        ("conv_lanes", (1, 3, 8, 8), (16, 3, 3, 3), {"blocks": (0, 4), "target": GCN}),
        ("conv_winograd_lanes", (1, 64, 28, 28), (64, 64, 3, 3),
         {"blocks": (4, 4), "target": GCN, "pads": (1, 1, 1, 1)}),
        ("conv_lanes", (1, 64, 28, 28), (64, 64, 3, 3),
         {"blocks": (4, 4), "target": GCN, "strides": (1, 2)}),
        ("conv_lanes", (1, 128, 7, 7), (128, 128, 3, 3), {"blocks": (4, 4), "target": RX580}),
        ("depthwise_lanes", (1, 32, 4, 4), (32, 1, 3, 3),
         {"blocks": (4, 4), "group": 32, "target": GCN}),
        ("conv_tiled", (1, 12, 4, 4), (12, 6, 3, 3), {"blocks": (16, 16), "group": 2}),
        ("conv_direct", (1, 66, 4, 4), (66, 2, 3, 3), {"blocks": (16, 16), "group": 33}),
        ("conv_direct", (1, 3, 4, 4), (2, 3, 3, 3), {}),
        ("conv_direct", (1, 16, 4, 4, 4), (16, 16, 3, 3, 3), {"blocks": (16, 16)}),
    ],
)  # fmt: skip
def test_the_engine_chooses(name: str, x: Sequence[int], w: Sequence[int], options: Any) -> None:
    case, _ = make(name, x, w, **options)
    assert chosen(case.call, case.constants, case.target) == name


def test_epilogue_that_vectors_cannot_have() -> None:
    epilogue = Cast(DType.FLOAT32, Cast(DType.INT32, Arg(0)))
    case, sums = make("conv_direct", (1, 3, 4, 4), (2, 3, 3, 3), blocks=(16, 16), epilogue=epilogue)
    assert chosen(case.call, case.constants, case.target) == "conv_direct"
    check(case, np.trunc(sums))


def test_no_kernel_takes_integers() -> None:
    case, _ = make("conv_direct", (1, 3, 4, 4), (2, 3, 3, 3))
    whole = replace(case.call.output, dtype=DType.INT32)
    assert chosen(replace(case.call, output=whole), case.constants, case.target) is None


def test_an_empty_batch_needs_no_launch() -> None:
    for kernel, blocks in (("conv_direct", (0, 0)), ("conv_tiled", (16, 16))):
        case, _ = make(kernel, (0, 3, 4, 4), (2, 3, 3, 3), blocks=blocks)
        spec = REGISTRY.get(kernel)
        assert spec.launches(case.call, Context(CPU8, case.constants.get)) == []


def test_rusticl(tmp_path: Path) -> None:
    """The GPU kernels on the front-end that owners of a card use."""
    gpu: dict[str, Any] = {"target": GCN}
    made = [make("conv_lanes", *p.values[:2], blocks=(4, 4), **gpu, **p.values[2]) for p in DENSE]
    made += [make("conv_lanes", *p.values[:2], blocks=(0, 4), **gpu, **p.values[2]) for p in STEM]
    made += [in_slices(*p.values) for p in SLICES]
    for p in WINOGRAD_LANES:
        x, w, options = p.values
        rows = options | {"blocks": (4, 4), "target": RX580}
        made.append(make("conv_winograd_lanes", x, w, **rows))
    for p in DEPTHWISE:
        x, w, options = p.values
        made.append(make("depthwise_lanes", x, w, group=x[1], blocks=(4, 4), **gpu, **options))
    results = run_on_rusticl([case for case, _ in made], tmp_path)
    for found, (_, expected) in zip(results, made, strict=True):
        agree(found, expected)


@settings(max_examples=15)
@given(st.data())
def test_any_window(data: st.DataObject) -> None:
    """Sizes and windows are run-time numbers: an example compiles at most another tile."""
    kernel, strides, dilations = (
        data.draw(st.tuples(st.integers(1, 4), st.integers(1, 3))) for _ in range(3)
    )
    pads = data.draw(st.tuples(*[st.integers(0, 3)] * 4))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = [
        data.draw(st.integers(max(1, e - pads[i] - pads[2 + i]), 13)) for i, e in enumerate(extent)
    ]
    images, channels, filters = (data.draw(st.integers(1, n)) for n in (2, 18, 18))
    sizes = (images, channels, *size), (filters, channels, *kernel)
    options = {"strides": strides, "pads": pads, "dilations": dilations}
    check(*make("conv_tiled", *sizes, blocks=(16, 16), **options))
    check(*make("conv_lanes", *sizes, blocks=(4, 4), target=GCN, **options))
