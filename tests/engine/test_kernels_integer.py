"""Products and convolutions of bytes: every sum exactly as in whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from kernel_cases import on, run_together
from kernel_harness import CPU16, GCN, Array, Case, value

from rekindle._types import DType
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall

pytestmark = pytest.mark.opencl
TARGETS = pytest.mark.parametrize("target", [CPU16, GCN], ids=lambda t: t.family)
RNG = np.random.default_rng(7)
Pair = tuple[Case, Array]


def byte(*shape: int, dtype: str = "uint8") -> Array:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max + 1, shape).astype(dtype)


def made(call: str, arrays: Sequence[Array | None], expected: Array, **params: Any) -> Pair:
    given = {f"x{i}": a for i, a in enumerate(arrays) if a is not None}
    values = tuple(None if a is None else value(f"x{i}", a) for i, a in enumerate(arrays))
    out = Value("out", DType.INT32, expected.shape)
    return Case(call, LogicalCall(call, values, out, params, "node"), given), expected


def check(pairs: Sequence[Pair], target: Any) -> None:
    found = run_together(on(target, [c for c, _ in pairs]))
    for (c, expected), y in zip(pairs, found, strict=True):
        np.testing.assert_array_equal(y, expected, err_msg=str(c.call))


def product(a: Array, b: Array, za: Array | None = None, zb: Array | None = None) -> Pair:
    left = a.astype(np.int64) - (0 if za is None else za.astype(np.int64).reshape(-1, 1))
    right = b.astype(np.int64) - (0 if zb is None else zb.astype(np.int64))
    return made("matmul_integer", (a, b, za, zb), left @ right)


@TARGETS
def test_products(target: Any) -> None:
    check(
        [
            product(byte(1, 1), byte(1, 1)),
            product(byte(5, 13), byte(13, 127, dtype="int8"), byte(), byte(dtype="int8")),
            product(byte(13, 64, dtype="int8"), byte(64, 16, dtype="int8")),
            product(byte(7, 127), byte(127, 33), byte(7), byte(33)),
            product(byte(2, 3, 5, 9), byte(3, 9, 18), byte(), None),
            product(byte(3, 4, 13), byte(13, 17, dtype="int8"), None, byte(17, dtype="int8")),
        ],
        target,
    )


def test_a_product_of_extremes_does_not_overflow() -> None:
    """4,096 terms of -255 * 255: far past 2^24, where float32 would round."""
    a, b = np.zeros((2, 4096), np.uint8), np.full((4096, 3), 255, np.uint8)
    check([product(a, b, np.array(255, np.uint8), None)], CPU16)


def convolution(
    x: Array, w: Array, zx: Array | None = None, zw: Array | None = None, group: int = 1,
    strides: int = 1, pads: int = 0, dilations: int = 1,
) -> Pair:  # fmt: skip
    rank = x.ndim - 2
    centred = x.astype(np.int64) - (0 if zx is None else int(zx))
    around = [(0, 0)] * 2 + [(pads, pads)] * rank
    padded = np.pad(centred, around)
    weights = w.astype(np.int64)
    if zw is not None:
        weights = weights - zw.astype(np.int64).reshape(-1, *(1,) * (rank + 1))
    reach = [(k - 1) * dilations + 1 for k in w.shape[2:]]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, tuple(range(2, x.ndim)))
    windows = windows[(slice(None),) * 2 + (slice(None, None, strides),) * rank]
    windows = windows[(..., *(slice(None, None, dilations),) * rank)]
    n, _, *space = windows.shape[: 2 + rank]
    windows = windows.reshape(n, group, -1, *windows.shape[2:])
    weights = weights.reshape(group, -1, *weights.shape[1:])
    letters = "xyz"[:rank], "ijk"[:rank]
    equation = f"ngc{letters[0]}{letters[1]},gmc{letters[1]}->ngm{letters[0]}"
    expected = np.einsum(equation, windows, weights).reshape(n, -1, *space)
    return made(
        "conv_integer", (x, w, zx, zw), expected, group=group, strides=(strides,) * rank,
        pads=(pads,) * (2 * rank), dilations=(dilations,) * rank,
    )  # fmt: skip


@TARGETS
def test_convolutions(target: Any) -> None:
    signed = {"dtype": "int8"}
    check(
        [
            convolution(byte(1, 3, 13, 17), byte(5, 3, 3, 3, **signed), byte(), pads=1),
            convolution(byte(2, 4, 9, 33), byte(6, 2, 3, 3), byte(), byte(6), 2, strides=2, pads=1),
            convolution(byte(1, 7, 5, 19, **signed), byte(7, 1, 3, 3, **signed), None, None, 7),
            convolution(byte(1, 13, 4, 5), byte(3, 13, 1, 1, **signed), byte()),
            convolution(byte(2, 3, 40), byte(4, 3, 5), byte(), byte(), dilations=2, pads=3),
            convolution(byte(1, 2, 4, 5, 6), byte(3, 2, 2, 2, 2), byte(), byte(3), pads=1),
        ],
        target,
    )
