"""Attention kernels against the definition in float64, on every target that PoCL can run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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

from rekindle._types import Target
from rekindle.engine.kernels import REGISTRY, Context
from rekindle.graph.lowering import LogicalCall
from rekindle.graph.ops._copies import row_major

pytestmark = pytest.mark.opencl
Array = np.ndarray[Any, np.dtype[Any]]
PLAIN, BESIDE = (0, 1, 2, 3), (0, 2, 1, 3)
"""Heads as an axis of their own, and heads side by side in a token."""
KERNELS = {"attention_tiled": CPU8, "attention_direct": GCN, "attention_lanes": GCN}


def reference(q: Array, k: Array, v: Array, mask: Array | None, scale: float) -> Array:
    scores = np.einsum("bhqd,bhkd->bhqk", q.astype(np.float64), k) * scale
    if mask is not None:
        scores = scores + mask
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(3, keepdims=True))
        return np.asarray(np.einsum("bhqk,bhkd->bhqd", powers / powers.sum(3, keepdims=True), v))


def make(
    kernel: str, sizes: Sequence[int], target: Target, axes: Sequence[int] = PLAIN,
    mask: Array | None = None,
) -> tuple[Case, Array]:  # fmt: skip
    """A case and its expected result. sizes: batch, heads, queries, keys, size, value size."""
    batch, heads, queries, keys, size, value_size = sizes
    rng = np.random.default_rng(sum(sizes))
    q, k, v = (
        2 * rng.standard_normal((batch, heads, rows, width), np.float32)
        for rows, width in ((queries, size), (keys, size), (keys, value_size))
    )
    expected = reference(q, k, v, mask, 0.3)
    stored = {n: np.ascontiguousarray(x.transpose(axes)) for n, x in zip("qkv", (q, k, v))}  # noqa: B905
    y_shape = tuple(expected.shape[a] for a in axes)
    params: dict[str, Any] = {"sizes": tuple(sizes), "scale": 0.3, "mask_strides": (0, 0, 0, 0)}
    for name, shape in {**{n: x.shape for n, x in stored.items()}, "y": y_shape}.items():
        params[f"{name}_strides"] = tuple(row_major(shape)[axes.index(a)] for a in range(4))
    inputs = [value(n, x) for n, x in stored.items()]
    if mask is not None:
        steps = row_major(mask.shape)
        params["mask_strides"] = tuple(
            0 if d == 1 else s for d, s in zip(mask.shape, steps, strict=True)
        )
        stored["mask"] = mask
    given = (*inputs, value("mask", mask) if mask is not None else None)
    call = LogicalCall("attention", given, value("y", y_shape), params, "a")
    return Case(kernel, call, stored, {}, target), expected.transpose(axes)


def agree(found: Array, expected: Array) -> None:
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


SIZES = [
    (1, 1, 1, 1, 1, 8),
    (2, 3, 13, 127, 7, 16),
    (1, 2, 50, 64, 40, 40),
    (1, 1, 5, 65, 64, 24),
]


@pytest.mark.parametrize("target", [CPU8, CPU16], ids=["8", "16"])
@pytest.mark.parametrize("axes", [PLAIN, BESIDE], ids=["plain", "beside"])
@pytest.mark.parametrize("sizes", SIZES)
def test_tiled(sizes: Sequence[int], axes: Sequence[int], target: Target) -> None:
    case, expected = make("attention_tiled", sizes, target, axes)
    assert chosen(case.call, {}, target) == "attention_tiled"
    agree(run_case(case, pocl_device()), expected)


@pytest.mark.parametrize("sizes", [*SIZES, (2, 1, 3, 9, 5, 13)])
def test_direct(sizes: Sequence[int]) -> None:
    case, expected = make("attention_direct", sizes, GCN, BESIDE)
    agree(run_case(case, pocl_device()), expected)


LANES_SIZES = [
    (1, 1, 1, 1, 4, 8),
    (2, 3, 13, 127, 8, 16),
    (1, 1, 65, 13, 20, 24),
    (2, 1, 70, 7, 12, 96),
]


@pytest.mark.parametrize("sizes", LANES_SIZES)
def test_lanes(sizes: Sequence[int]) -> None:
    case, expected = make("attention_lanes", sizes, GCN, PLAIN if sizes[3] == 127 else BESIDE)
    assert chosen(case.call, {}, GCN) == "attention_lanes"
    agree(run_case(case, pocl_device()), expected)


RX580 = replace(GCN, compute_units=36)


@pytest.mark.parametrize("axes", [PLAIN, BESIDE], ids=["plain", "beside"])
def test_lanes_cut_keys_where_queries_are_few(axes: Sequence[int]) -> None:
    """Slices with a ragged end, one of them without any key that counts, and values in parts."""
    mask = np.random.default_rng(0).standard_normal((1, 1, 13, 263), np.float32)
    mask[..., 16:65] = -np.inf
    mask[0, 0, 5, :200] = -np.inf
    case, expected = make("attention_lanes", (2, 1, 13, 263, 32, 96), RX580, axes, mask)
    spec, context = REGISTRY.get("attention_lanes"), Context(RX580, {}.get)
    launches = spec.launches(case.call, context)
    assert [launch.kernel for launch in launches] == ["attention_lanes", "attention_sum"]
    agree(run_case(case, pocl_device()), expected)
    case.feeds["k"].reshape(-1)[-1] = np.nan
    assert np.isnan(run_case(case, pocl_device())[1]).all()


@pytest.mark.parametrize(("size", "value_size"), [(7, 8), (8, 13), (8, 92)])
def test_lanes_leaves_odd_rows_to_direct(size: int, value_size: int) -> None:
    case, _ = make("attention_lanes", (1, 1, 5, 9, size, value_size), GCN)
    assert chosen(case.call, {}, GCN) == "attention_direct"


MASKS = [(2, 1, 13, 67), (1, 3, 1, 67), (1, 1, 1, 67), (2, 3, 13, 67)]


@pytest.mark.parametrize("shape", MASKS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_masks_broadcast(kernel: str, shape: Sequence[int]) -> None:
    """Some keys weigh less, some nothing: a whole first block of them, too."""
    rng = np.random.default_rng(0)
    mask = rng.standard_normal(shape, np.float32)
    mask[..., :65] = np.where(rng.random((*shape[:-1], 65)) < 0.9, -np.inf, mask[..., :65])
    mask[0, 0, 0, :65] = -np.inf
    case, expected = make(kernel, (2, 3, 13, 67, 8, 8), KERNELS[kernel], mask=mask)
    agree(run_case(case, pocl_device()), expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_softmax_makes_nan_is_nan(kernel: str) -> None:
    """A query with no key at all, a NaN in a key, an infinite score."""
    mask = np.zeros((1, 1, 3, 70), np.float32)
    mask[0, 0, 1] = -np.inf
    mask[0, 0, 2, 5] = np.inf
    case, expected = make(kernel, (1, 1, 3, 70, 8, 8), KERNELS[kernel], mask=mask)
    found = run_case(case, pocl_device())
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    agree(found[0, 0, 0], expected[0, 0, 0])
    case.feeds["k"][0, 0, 69, 3] = np.nan
    assert np.isnan(run_case(case, pocl_device())).all()


def test_rusticl(tmp_path: Path) -> None:
    """On the front-end that owners of a card use."""
    mask = np.random.default_rng(0).standard_normal((2, 1, 13, 127), np.float32)
    mask[..., :65] = -np.inf
    made = [
        *(make("attention_direct", sizes, GCN, BESIDE) for sizes in SIZES),
        make("attention_lanes", LANES_SIZES[0], replace(GCN, family="generic"), BESIDE),
        make("attention_lanes", LANES_SIZES[1], GCN, mask=mask),
        make("attention_lanes", (1, 2, 13, 263, 32, 96), RX580),
    ]
    results = run_on_rusticl([case for case, _ in made], tmp_path)
    for found, (_, expected) in zip(results, made, strict=True):
        agree(found, expected)
