"""Reductions, arg-reductions and softmax against NumPy in float64, on both kernel families."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_cases import case, on, run_together
from kernel_harness import CPU16, GCN, Array, Case, chosen, run_on_rusticl, value

from rekindle._types import DType
from rekindle.engine import kernels
from rekindle.graph.ir import dtype_of
from rekindle.graph.lowering import LogicalCall

pytestmark = pytest.mark.opencl
TARGETS = pytest.mark.parametrize("target", [CPU16, GCN], ids=lambda t: t.family)
KINDS: dict[str, Any] = {
    "sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "prod": np.prod,
    "sum_square": lambda x, **k: np.sum(x * x, **k),
}  # fmt: skip
Pair = tuple[Case, Array]


def floats(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def reduced(
    x: Array, axes: Sequence[int], kind: str, blocks: tuple[int, int] = (0, 0), keep: bool = True
) -> Pair:
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x
    expected = KINDS[kind](wide, axis=tuple(axes), keepdims=keep)
    if kind == "mean" and x.dtype.kind != "f":
        expected = np.trunc(expected)
    expected = np.asarray(expected).astype(x.dtype)
    made = case(
        "reduce", {"x": x}, (dtype_of(x), expected.shape), blocks=blocks[:1],
        out_block=blocks[1], kind=kind, axes=tuple(axes),
    )  # fmt: skip
    return made, expected


def check(pairs: Sequence[Pair], target: Any, rtol: float = 2e-6) -> None:
    found = run_together(on(target, [c for c, _ in pairs]))
    for (c, expected), y in zip(pairs, found, strict=True):
        # Sums near zero lose bits of their terms, which are of order one.
        np.testing.assert_allclose(y, expected, rtol=rtol, atol=4e-6, err_msg=str(c.call))


@TARGETS
def test_any_axes(target: Any) -> None:
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((13,), (0,)), ((1,), (0,)), ((5, 127), (1,)), ((5, 127), (0,)), ((127, 3), (0,)),
        ((3, 1, 16), (0, 1)), ((2, 3, 5, 7), (1,)), ((2, 3, 5, 7), (0, 2)), ((3, 4, 5), (0, 1, 2)),
        ((2, 3, 5, 7), (1, 3)), ((2, 3, 2, 3, 2, 3), (0, 2, 4)), ((2, 3, 2, 3, 2, 3), (1, 3, 5)),
        ((4, 100), (0,)), ((1, 1, 1), (1,)), ((33, 65), (1,)),
    ]  # fmt: skip
    check([reduced(floats(*s), a, "sum", keep=len(s) != 2) for s, a in shapes], target)


@TARGETS
def test_every_kind(target: Any) -> None:
    """Rows and columns; `prod` and `sum_square` share all their code but one line with `sum`."""
    x, y = floats(3, 70), floats(70, 5)
    pairs = [reduced(x, (1,), kind) for kind in KINDS]
    check(pairs + [reduced(y, (0,), kind) for kind in ("mean", "max")], target, 1e-5)


@TARGETS
def test_blocked_spatial(target: Any) -> None:
    c = target.channel_block
    shapes = [(2, c, 3, 5), (2, c + 3, 4), (1, 3, 9, 9), (2, 2 * c, 1, 1), (1, 2 * c + 1, 2, 3, 2)]
    pairs = []
    for shape in shapes:
        axes = range(2, len(shape))
        pairs += [reduced(floats(*shape), axes, "mean", (c, out)) for out in (c, 0)]
    pairs.append(reduced(floats(2, c + 1, 5), (2,), "max", (c, c)))
    pairs.append(reduced(floats(2, c + 1, 5), (2,), "prod", (c, 0), keep=False))
    check(pairs, target)


@TARGETS
def test_long_sums_are_accurate(target: Any) -> None:
    """A million terms: ones exactly, a tenth to one part in a million, few outputs or many."""
    ones, tenths = np.ones(10**6, np.float32), np.full((10**6 // 4, 4), 0.1, np.float32)
    spread = floats(40_000, 3)
    spread[0] = 1e4
    pairs = [
        reduced(ones, (0,), "sum"), reduced(tenths, (0,), "sum"), reduced(tenths.T, (1,), "sum"),
        reduced(tenths.reshape(-1, 64), (0,), "sum"), reduced(spread, (0,), "mean"),
        reduced(tenths, (0, 1), "sum_square"), reduced(ones, (0,), "max"),
    ]  # fmt: skip
    launches = [
        len(kernels.REGISTRY.get("reduce").launches(c.call, kernels.Context(target, {}.get)))
        for c, _ in pairs
    ]
    assert launches[0] == 2, "a long reduction to one number is cut into parts"
    found = run_together(on(target, [c for c, _ in pairs]))
    assert found[0] == 10**6
    for (c, expected), y in zip(pairs, found, strict=True):
        np.testing.assert_allclose(y, expected, rtol=1e-6, err_msg=str(c.call))


@TARGETS
def test_long_blocked_reduction_in_parts(target: Any) -> None:
    c = target.channel_block
    pairs = [reduced(floats(1, c + 1, 260, 250), (2, 3), "mean", (c, out)) for out in (c, 0)]
    check(pairs, target)


def test_integers_and_halves() -> None:
    rng = np.random.default_rng(3)
    pairs = []
    for name in ("int32", "int64", "uint8", "float16"):
        x = rng.integers(-9 if name[0] != "u" else 0, 9, (3, 37)).astype(name)
        pairs += [reduced(x, (1,), "sum"), reduced(x, (0,), "max")]
    x = rng.integers(-99, 99, (5, 40)).astype(np.int32)
    pairs += [reduced(x, (1,), kind) for kind in ("mean", "min")]
    check(pairs, CPU16)
    big = np.full((1, 40), 2**30, np.int32)
    (found,) = run_together(on(CPU16, [reduced(big, (1,), "sum")[0]]))
    assert found == np.int32(40 * 2**30 % 2**32 - 2**32 * (40 * 2**30 % 2**32 >= 2**31))
    flags = rng.integers(0, 2, (4, 9)).astype(bool)
    check([(case("reduce", {"x": flags}, (DType.BOOL, (4, 1)), kind="max", axes=(1,)),
            flags.max(1, keepdims=True))], CPU16)  # fmt: skip


@TARGETS
def test_nan_and_infinity_come_through(target: Any) -> None:
    x = floats(6, 70)
    x[0, 3], x[1, 69], x[2, 0], x[3, 5], x[3, 6] = np.nan, np.nan, np.inf, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        pairs = [reduced(x, (1,), kind) for kind in ("sum", "max", "min")]
        pairs += [reduced(x.T.copy(), (0,), kind) for kind in ("sum", "max")]
    check(pairs, target)


def test_over_nothing() -> None:
    expected = {"sum": 0.0, "mean": np.nan, "max": -np.inf, "prod": 1.0}
    x = np.zeros((3, 0), np.float32)
    pairs = [
        (case("reduce", {"x": x}, (DType.FLOAT32, (3, 1)), kind=kind, axes=(1,)),
         np.full((3, 1), number, np.float32))
        for kind, number in expected.items()
    ]  # fmt: skip
    check(pairs, CPU16)


def test_refuses_other_layouts_and_doubles() -> None:
    def refused(x: Any, out: Any, axes: tuple[int, ...]) -> bool:
        call = LogicalCall("reduce", (x,), out, {"kind": "sum", "axes": axes}, "n")
        return chosen(call, {}, CPU16) is None

    assert refused(value("x", (2, 20, 3), 16), value("o", (2, 1, 3)), (1,))
    assert refused(value("x", (2, 20, 3)), value("o", (2, 20, 1), 16), (2,))
    assert refused(value("x", np.zeros((2, 3))), value("o", np.zeros((2, 1))), (1,))


def test_on_rusticl(tmp_path: Path) -> None:
    pairs = [
        reduced(floats(3, 100), (1,), "sum"), reduced(floats(3, 9), (1,), "max"),
        reduced(floats(90, 8), (0,), "mean"), reduced(floats(2, 7, 70), (2,), "mean", (4, 0)),
        reduced(floats(1, 40_000), (1,), "sum_square"),
    ]  # fmt: skip
    found = run_on_rusticl(on(GCN, [c for c, _ in pairs]), tmp_path)
    for (c, expected), y in zip(pairs, found, strict=True):
        np.testing.assert_allclose(y, expected, rtol=2e-6, atol=4e-6, err_msg=str(c.call))
