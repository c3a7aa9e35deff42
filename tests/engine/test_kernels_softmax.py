"""Softmax, its logarithm, and arg-reductions against NumPy in float64."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_cases import case, on, run_together
from kernel_harness import CPU16, GCN, Array, Case, chosen, run_on_rusticl, value

from rekindle._types import DType
from rekindle.graph.ir import dtype_of
from rekindle.graph.lowering import LogicalCall

pytestmark = pytest.mark.opencl
TARGETS = pytest.mark.parametrize("target", [CPU16, GCN], ids=lambda t: t.family)
Pair = tuple[Case, Array]
SHAPES = [
    ((1000,), 0), ((3, 13), 1), ((4, 127), 1), ((2, 3, 197), 2), ((5, 1), 1), ((2, 16, 3), 1),
    ((2, 21, 40), 1), ((7, 33), 0), ((1, 2, 3, 4, 5), 2),
]  # fmt: skip


def floats(shape: Sequence[int], scale: float = 3.0) -> Array:
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def softmax(x: Array, axis: int, log: bool = False) -> Pair:
    wide = x.astype(np.float64)
    with np.errstate(invalid="ignore"):
        shifted = wide - wide.max(axis, keepdims=True)
        total = np.exp(shifted).sum(axis, keepdims=True)
        expected = shifted - np.log(total) if log else np.exp(shifted) / total
    made = case("softmax", {"x": x}, (dtype_of(x), x.shape), axis=axis, log=log)
    return made, expected.astype(x.dtype)


def check(pairs: Sequence[Pair], target: Any, rtol: float = 2e-6) -> None:
    found = run_together(on(target, [c for c, _ in pairs]))
    for (c, expected), y in zip(pairs, found, strict=True):
        np.testing.assert_allclose(y, expected, rtol=rtol, atol=1e-6, err_msg=str(c.call))


@TARGETS
@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log"])
def test_softmax_along_any_axis(target: Any, log: bool) -> None:
    check([softmax(floats(shape), axis, log) for shape, axis in SHAPES], target)


@TARGETS
def test_softmax_is_stable(target: Any) -> None:
    """Huge differences, infinities and NaN: as NumPy's with the maximum taken out first."""
    x = floats((9, 70), 60.0)
    x[1, 5], x[2, 5], x[3, 5:8], x[4] = 3e38, np.inf, -np.inf, -np.inf
    x[5, 69], x[6, 0], x[7] = np.nan, np.nan, 1e30
    check([softmax(x, 1), softmax(x, 1, log=True), softmax(x.T.copy(), 0)], target)


def test_softmax_of_halves() -> None:
    check([softmax(floats((5, 40)).astype(np.float16), axis) for axis in (0, 1)], CPU16, 1e-3)


def arg(x: Array, axis: int, kind: str = "max", last: bool = False, keep: bool = True) -> Pair:
    """NumPy's answer (there is no NaN in these): the first of equals, or the last."""
    find = np.argmax if kind == "max" else np.argmin
    found = find(np.flip(x, axis), axis) if last else find(x, axis)
    expected = np.asarray(x.shape[axis] - 1 - found if last else found, np.int64)
    expected = np.expand_dims(expected, axis) if keep else expected
    made = case(
        "arg_reduce", {"x": x}, (DType.INT64, expected.shape), kind=kind, axis=axis, last=last
    )
    return made, expected


@TARGETS
def test_arg_reduce(target: Any) -> None:
    """Whole numbers from a small range, so that equals abound."""
    pairs = []
    for i, (shape, axis) in enumerate(SHAPES[1:]):
        x = np.round(floats(shape))
        pairs += [arg(x, axis), arg(x, axis, "min", last=True, keep=i % 2 == 0)]
    rng = np.random.default_rng(2)
    pairs += [arg(rng.integers(0, 9, (3, 100)).astype(n), 1) for n in ("int32", "int64", "uint8")]
    check(pairs, target)


@TARGETS
@pytest.mark.parametrize("kind", ["max", "min"])
def test_arg_reduce_with_nan_is_as_in_onnx_runtime(target: Any, kind: str) -> None:
    """Answers of ONNX Runtime 1.31.1 for rows of more than one: NaN wins in front only."""
    nan, inf = np.nan, np.inf
    rows = [[1, nan, 3, 2], [nan, 1, 2, 3], [1, 3, nan, 2], [nan] * 4, [-inf, nan, -inf, inf]]
    first = {"max": [2, 0, 1, 0, 3], "min": [0, 0, 0, 0, 0]}[kind]
    last = {"max": [2, 0, 1, 0, 3], "min": [0, 0, 0, 0, 2]}[kind]
    x = np.array(rows, np.float32)
    # Long enough that on a GPU a wave shares the row.
    long = np.pad(x, ((0, 0), (0, 96)), constant_values=1.5)
    pairs = []
    for is_last, expected in ((False, first), (True, last)):
        pairs += [
            (case("arg_reduce", {"x": rows_of}, (DType.INT64, (5, 1)), kind=kind, axis=1,
                  last=is_last), np.array(expected)[:, None])
            for rows_of in (x, long)
        ]  # fmt: skip
        pairs.append((case("arg_reduce", {"x": x.T.copy()}, (DType.INT64, (5,)), kind=kind,
                           axis=0, last=is_last), np.array(expected)))  # fmt: skip
    check(pairs, target)


def test_refuses_what_it_cannot_do() -> None:
    def refused(name: str, x: Any, out: Any, **params: Any) -> bool:
        return chosen(LogicalCall(name, (x,), out, params, "n"), {}, CPU16) is None

    ints, index = value("x", np.zeros((2, 3), np.int32)), value("o", np.zeros((2, 1), np.int64))
    assert refused("softmax", ints, ints, axis=1, log=False)
    assert refused("softmax", value("x", (2, 3), 16), value("o", (2, 3), 16), axis=1, log=False)
    blocked, empty = value("x", (2, 3), 16), value("x", (2, 0))
    assert refused("arg_reduce", blocked, index, kind="max", axis=1, last=False)
    assert refused("arg_reduce", empty, index, kind="max", axis=1, last=False)


def test_on_rusticl(tmp_path: Path) -> None:
    pairs = [
        softmax(floats((3, 70)), 1), softmax(floats((2, 9, 5)), 1, log=True),
        softmax(floats((6, 5)), 1), arg(np.round(floats((3, 100))), 1), arg(floats((9, 5)), 0),
    ]  # fmt: skip
    found = run_on_rusticl(on(GCN, [c for c, _ in pairs]), tmp_path)
    for (c, expected), y in zip(pairs, found, strict=True):
        np.testing.assert_allclose(y, expected, rtol=2e-6, atol=1e-6, err_msg=str(c.call))
