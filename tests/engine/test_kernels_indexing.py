"""The kernels that pick, place and order by index, against NumPy, on awkward sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from kernel_cases import case, on, run_together
from kernel_harness import CPU16, GCN, Array, Case

from rekindle.graph.ir import dtype_of

pytestmark = pytest.mark.opencl
TARGETS = pytest.mark.parametrize("target", [CPU16, GCN], ids=lambda t: t.family)
Pair = tuple[Case, Array]
RNG = np.random.default_rng(5)


def numbers(*shape: int, dtype: str = "float32") -> Array:
    return RNG.permutation(int(np.prod(shape))).reshape(shape).astype(dtype)


def places(size: int, *shape: int, dtype: str = "int64") -> Array:
    """Indices from both ends."""
    return RNG.integers(-size, size, shape).astype(dtype)


def check(pairs: Sequence[Pair], target: Any, rtol: float = 0.0) -> None:
    found = run_together(on(target, [c for c, _ in pairs]))
    for (c, expected), y in zip(pairs, found, strict=True):
        np.testing.assert_allclose(y, expected, rtol=rtol, err_msg=str(c.call))


def elements(x: Array, indices: Array, axis: int) -> Pair:
    covered = tuple(slice(None if d == axis else n) for d, n in enumerate(indices.shape))
    whole = np.where(indices < 0, indices + x.shape[axis], indices)
    expected = np.take_along_axis(x[covered], whole, axis)
    made = case("gather_elements", {"x": x, "i": indices}, (dtype_of(x), expected.shape), axis=axis)
    return made, expected


@TARGETS
def test_gather_elements(target: Any) -> None:
    x = numbers(5, 13, 7)
    check(
        [
            elements(x, places(5, 3, 13, 7), 0),
            elements(x, places(13, 4, 127, 5, dtype="int32"), 1),
            elements(numbers(4, 6, dtype="int64"), places(6, 4, 1), 1),
            elements(numbers(9, dtype="uint8"), places(9, 13), 0),
            elements(numbers(1, 1, 3, dtype="float16"), places(3, 1, 1, 8), 2),
        ],
        target,
    )


def slices(x: Array, indices: Array, batch: int = 0) -> Pair:
    rows = [x[(*r[:batch], *indices[r])] for r in np.ndindex(*indices.shape[:-1])]
    shape = indices.shape[:-1] + x.shape[batch + indices.shape[-1] :]
    made = case("gather_nd", {"x": x, "i": indices}, (dtype_of(x), shape), batch=batch)
    return made, np.stack(rows).reshape(shape)


@TARGETS
def test_gather_nd(target: Any) -> None:
    x = numbers(3, 4, 5, 7)
    some = np.stack([places(3, 2, 13), places(4, 2, 13)], axis=-1)
    every = np.stack([places(n, 11) for n in x.shape], axis=-1).astype(np.int32)
    check(
        [
            slices(x, some),
            slices(x, every),
            slices(x, places(4, 3, 6, 1), batch=1),
            slices(numbers(3, 4, dtype="uint8"), places(3, 5, 1)),
        ],
        target,
    )


JOINS = {"none": None, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def scattered(x: Array, indices: Array, updates: Array, reduction: str, axis: int | None) -> Pair:
    """One update after another; along an axis, or (None) slices."""
    y, join = x.copy(), JOINS[reduction]
    for place in np.ndindex(*(indices.shape[:-1] if axis is None else indices.shape)):
        if axis is None:
            to = tuple(indices[place])
        else:
            to = (*place[:axis], indices[place], *place[axis + 1 :])
        y[to] = updates[place] if join is None else join(y[to], updates[place])
    params = {} if axis is None else {"axis": axis}
    made = case(
        "scatter_nd" if axis is None else "scatter_elements",
        {"x": x, "i": indices, "u": updates}, (dtype_of(x), x.shape),
        reduction=reduction, **params,
    )  # fmt: skip
    return made, y


@TARGETS
@pytest.mark.parametrize("reduction", JOINS)
def test_scatter_meets_updates_in_their_order(target: Any, reduction: str) -> None:
    """Few places and many updates: nearly all of them meet."""
    x, small = numbers(3, 5, 4), numbers(6, dtype="int32")
    pairs = [
        scattered(x, places(5, 3, 13, 4), numbers(3, 13, 4), reduction, 1),
        scattered(x, places(3, 7, 2, 3, dtype="int32"), numbers(7, 2, 3), reduction, 0),
        scattered(small, places(6, 13), numbers(13, dtype="int32") % 5, reduction, 0),
        scattered(x, places(3, 13, 1), numbers(13, 5, 4), reduction, None),
        scattered(small, places(6, 2, 7, 1), numbers(2, 7, dtype="int32") % 5, reduction, None),
    ]
    odd = numbers(4, 3, dtype="float32")
    odd[1, 1], odd[2, 0] = np.nan, np.inf
    pairs.append(scattered(odd, places(4, 6, 3), numbers(6, 3), reduction, 0))
    check(pairs, target, rtol=1e-5)


def test_scatter_skips_an_index_outside() -> None:
    x = numbers(4, 2)
    made = case(
        "scatter_nd", {"x": x, "i": np.array([[4], [-5]]), "u": numbers(2, 2)},
        (dtype_of(x), x.shape), reduction="none",
    )  # fmt: skip
    check([(made, x)], CPU16)


def ordered(x: Array, k: int, axis: int, *, largest: bool = True) -> Pair:
    keys = x.astype(np.float64)
    above = np.nextafter(np.inf, 0)
    keys = np.clip(keys, -above, np.nextafter(above, 0))  # infinities make room for NaN above them
    keys = np.where(np.isnan(keys), np.inf, keys)
    order = np.argsort(-keys if largest else keys, axis=axis, kind="stable")
    expected = order.take(range(k), axis=axis)
    made = case(
        "top_k", {"x": x}, (dtype_of(expected), expected.shape), axis=axis, k=k, largest=largest
    )
    return made, expected


@TARGETS
def test_top_k(target: Any) -> None:
    ties, odd = numbers(3, 127) % 7, numbers(2, 13)
    odd[0, 3], odd[0, 5], odd[1, 0], odd[1, 1] = np.nan, np.nan, np.inf, np.nan
    check(
        [
            ordered(numbers(4, 127), 13, 1),
            ordered(ties, 127, 1),
            ordered(ties, 5, 1, largest=False),
            ordered(odd, 13, 1),
            ordered(odd, 3, 1, largest=False),
            ordered(numbers(3, 13, 5), 4, 1),
            ordered(numbers(13, dtype="int64") - 6, 1, 0, largest=False),
            ordered(numbers(200, dtype="uint8"), 7, 0),
        ],
        target,
    )


def running(x: Array, axis: int, kind: str, *, exclusive: bool, reverse: bool) -> Pair:
    join = np.add if kind == "sum" else np.multiply
    lines = np.moveaxis(x, axis, 0)[:: -1 if reverse else 1]
    total, rows = np.full(lines.shape[1:], join.identity, x.dtype), []
    for row in lines:
        rows.append(total if exclusive else join(total, row))
        total = join(total, row)
    expected = np.moveaxis(np.stack(rows)[:: -1 if reverse else 1], 0, axis)
    made = case(
        "cumulate", {"x": x}, (dtype_of(x), x.shape),
        axis=axis, kind=kind, exclusive=exclusive, reverse=reverse,
    )  # fmt: skip
    return made, np.ascontiguousarray(expected)


@TARGETS
def test_running_sums_and_products(target: Any) -> None:
    x = RNG.standard_normal((3, 13, 5)).astype(np.float32)
    check(
        [
            running(a, axis, kind, exclusive=exclusive, reverse=reverse)
            for a, axis in ((x, 1), (x, 2), (numbers(13, dtype="int64"), 0))
            for kind in ("sum", "prod")
            for exclusive in (False, True)
            for reverse in (False, True)
        ],
        target,
        rtol=1e-5,
    )
