"""The normalization kernel against the definition in float64, on every target PoCL can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_harness import (
    CPU8,
    CPU16,
    GCN,
    TARGETS,
    Case,
    pocl_device,
    run_case,
    run_on_rusticl,
    value,
)

from rekindle._types import Target
from rekindle.graph.lowering import LogicalCall

pytestmark = pytest.mark.opencl
Array = np.ndarray[Any, np.dtype[Any]]
LAYER, GROUP_EACH, GROUP_ONE = "layer", "groups, one scale a channel", "groups, one scale a group"


def make(
    rows: int, length: int, kind: str, target: Target, affine: int = 2, *, rms: bool = False,
    dtype: str = "float32",
) -> tuple[Case, Array]:  # fmt: skip
    """Rows far from zero; `kind` says how scales lie. Rows count as groups of 3 a picture."""
    rng = np.random.default_rng(rows + length)
    x = (3 * rng.standard_normal((rows, length)) + 20).astype(dtype)
    channels = 2 if kind == GROUP_EACH else 1
    layout = (1, 0, 1) if kind == LAYER else (3, channels, length // channels)
    count = length if kind == LAYER else 3 * channels
    scale, bias = (rng.standard_normal(count, np.float32) for _ in range(2))
    given = [value("scale", scale), value("bias", bias)][:affine]
    wide = x.astype(np.float64)
    centred = wide if rms else wide - wide.mean(1, keepdims=True)
    y = centred / np.sqrt(np.square(centred).mean(1, keepdims=True) + 1e-3)
    if kind == LAYER:
        factors, terms = scale, bias
    else:
        at = np.arange(rows)[:, None] % 3 * channels + np.arange(length) // (length // channels)
        factors, terms = scale[at], bias[at]
    y = y * factors if affine else y
    y = y + terms if affine == 2 else y
    params = {"length": length, "rms": rms, "epsilon": 1e-3, "affine": layout}
    inputs = (value("x", x), *given, *(None,) * (2 - affine))
    output = value("y", np.zeros((rows, length), dtype))
    call = LogicalCall("normalize", inputs, output, params, "n")
    feeds = {"x": x, "scale": scale, "bias": bias}
    return Case("normalize", call, feeds, {}, target), y


def agree(found: Array, expected: Array, tolerance: float = 3e-6) -> None:
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


SIZES = [(1, 1), (5, 7), (2, 13), (3, 127), (130, 24), (1, 3001)]


@pytest.mark.parametrize("target", TARGETS, ids=["8", "16", "gpu"])
@pytest.mark.parametrize(("rows", "length"), SIZES)
def test_layer(rows: int, length: int, target: Target) -> None:
    case, expected = make(rows, length, LAYER, target)
    agree(run_case(case, pocl_device()), expected)


@pytest.mark.parametrize("target", TARGETS, ids=["8", "16", "gpu"])
@pytest.mark.parametrize("kind", [GROUP_EACH, GROUP_ONE])
def test_groups(kind: str, target: Target) -> None:
    for length in (2, 26, 130):
        case, expected = make(6, length, kind, target)
        agree(run_case(case, pocl_device()), expected)


@pytest.mark.parametrize("target", [CPU8, GCN], ids=["8", "gpu"])
@pytest.mark.parametrize("affine", [0, 1])
def test_root_mean_square(affine: int, target: Target) -> None:
    case, expected = make(4, 67, LAYER, target, affine, rms=True)
    agree(run_case(case, pocl_device()), expected)


@pytest.mark.parametrize("target", [CPU16, GCN], ids=["16", "gpu"])
def test_half(target: Target) -> None:
    case, expected = make(4, 67, LAYER, target, dtype="float16")
    agree(run_case(case, pocl_device()), expected, 1e-3)


def test_a_long_sum_keeps_its_digits() -> None:
    case, expected = make(1, 2**16, LAYER, CPU8)
    case.feeds["x"][:] += 1000
    x = case.feeds["x"].astype(np.float64)
    y = (x - x.mean()) / np.sqrt(x.var() + 1e-3) * case.feeds["scale"] + case.feeds["bias"]
    agree(run_case(case, pocl_device()), y, 1e-4)
    assert expected.shape == y.shape


@pytest.mark.parametrize("target", TARGETS, ids=["8", "16", "gpu"])
def test_nan_and_infinity_stay_in_their_row(target: Target) -> None:
    case, expected = make(4, 40, LAYER, target)
    case.feeds["x"][1, 5], case.feeds["x"][2, 6] = np.nan, np.inf
    found = run_case(case, pocl_device())
    assert np.isnan(found[1]).all()
    assert np.isnan(found[2, 6])
    agree(found[[0, 3]], expected[[0, 3]])


def test_rusticl(tmp_path: Path) -> None:
    """On the front-end that owners of a card use."""
    made = [make(rows, length, LAYER, GCN) for rows, length in SIZES]
    made += [make(6, 130, GROUP_EACH, GCN)]
    results = run_on_rusticl([case for case, _ in made], tmp_path)
    for found, (_, expected) in zip(results, made, strict=True):
        agree(found, expected)
