"""Matrix products against NumPy in float64, on every target that PoCL can run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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
)  # fmt: skip

from rekindle._types import DType, Target
from rekindle.engine.kernels import REGISTRY, Context
from rekindle.graph.expr import Arg, Cast, Expr, evaluate, maximum
from rekindle.graph.lowering import LogicalCall

pytestmark = pytest.mark.opencl
Array = np.ndarray[Any, np.dtype[Any]]


def make(
    kernel: str, a: Sequence[int], b: Sequence[int], *, ta: bool = False, tb: bool = False,
    constant: bool = False, target: Target = CPU8, epilogue: Expr | None = None,
    operands: Sequence[Sequence[int]] = (),
) -> tuple[Case, Array]:  # fmt: skip
    """A case and its result in float64; `ta`, `tb`: that operand is stored transposed."""
    rng = np.random.default_rng(sum(a) + sum(b))
    arrays = {
        name: rng.standard_normal(shape, np.float32)
        for name, shape in {"a": a, "b": b, **{f"e{i}": s for i, s in enumerate(operands)}}.items()
    }
    left, right, *rest = (x.astype(np.float64) for x in arrays.values())
    expected = (left.swapaxes(-1, -2) if ta else left) @ (right.swapaxes(-1, -2) if tb else right)
    if epilogue is not None:
        expected = evaluate(epilogue, [expected, *rest])
    call = LogicalCall(
        "matmul",
        tuple(value(n, x) for n, x in arrays.items()),
        value("y", expected.shape),
        {"transpose_a": ta, "transpose_b": tb, "epilogue": epilogue},
        "m",
    )
    constants = {"b": arrays.pop("b")} if constant else {}
    return Case(kernel, call, arrays, constants, target), expected


def check(case: Case, expected: Array) -> None:
    agree(run_case(case, pocl_device()), expected)


def agree(found: Array, expected: Array) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


SIZES = [
    pytest.param((m, k), (k, n), id=f"{m}x{k}x{n}")
    for m, k, n in [(1, 1, 1), (13, 17, 127), (1, 64, 100), (127, 3, 10), (50, 33, 48), (7, 19, 3)]
]


KERNELS = [
    pytest.param("matmul_tiled", CPU8, id="tiled 8"),
    pytest.param("matmul_tiled", CPU16, id="tiled 16"),
    pytest.param("matmul_local", replace(GCN, compute_units=36), id="local"),
]


@pytest.mark.parametrize(("kernel", "target"), KERNELS)
@pytest.mark.parametrize(("a", "b"), SIZES)
def test_sizes(a: Sequence[int], b: Sequence[int], kernel: str, target: Target) -> None:
    for constant in (True, False):
        check(*make(kernel, a, b, constant=constant, target=target))


@pytest.mark.parametrize(("units", "rows"), [(8, "2"), (4, "4"), (2, "8")])
def test_tiles_are_taller_where_fewer_suffice(units: int, rows: str) -> None:
    target = replace(GCN, compute_units=units)
    case, expected = make("matmul_local", (2, 127, 21), (2, 21, 65), target=target)
    launch = REGISTRY.get("matmul_local").launches(case.call, Context(target, {}.get))[0]
    assert dict(launch.defines)["TM"] == rows
    check(case, expected)


COPIED = [
    pytest.param((499, 271), (271, 397), {}, id="ragged"),
    pytest.param((271, 499), (271, 397), {"ta": True}, id="transposed"),
    pytest.param((2, 260, 530), (530, 1201), {"operands": [(1201,)]}, id="panels shared out"),
]


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "computed"])
@pytest.mark.parametrize("target", [CPU8, CPU16], ids=["8", "16"])
@pytest.mark.parametrize(("a", "b", "more"), COPIED)
def test_large_products_copy_their_rows(
    a: Sequence[int], b: Sequence[int], more: dict[str, Any], target: Target, constant: bool
) -> None:
    if "operands" in more:
        more = more | {"epilogue": Arg(0) + Arg(1)}
    case, expected = make(
        "matmul_tiled", a, b, constant=constant, target=replace(target, compute_units=2), **more
    )
    launch = REGISTRY.get("matmul_tiled").launches(case.call, Context(case.target, {}.get))[-1]
    assert int(dict(launch.defines)["ROOM"]) > 0
    check(case, expected)


TRANSPOSED = [((13, 29), (13, 37), True, False), ((29, 13), (37, 13), False, True),
              ((13, 29), (37, 13), True, True)]  # fmt: skip


@pytest.mark.parametrize(("kernel", "target"), KERNELS)
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "computed"])
def test_transposed(kernel: str, target: Target, constant: bool) -> None:
    for a, b, ta, tb in TRANSPOSED:
        check(*make(kernel, a, b, ta=ta, tb=tb, constant=constant, target=target))


BATCHES = [
    pytest.param(a, b, id=f"{a} by {b}")
    for a, b in [
        ((3, 5, 7), (3, 7, 9)),
        ((2, 1, 5, 7), (3, 7, 9)),
        ((5, 7), (2, 3, 7, 9)),
        ((2, 3, 5, 7), (7, 9)),
        ((2, 3, 1, 7), (1, 3, 7, 9)),
    ]
]


@pytest.mark.parametrize(("kernel", "target"), [KERNELS[0], KERNELS[2]])
@pytest.mark.parametrize(("a", "b"), BATCHES)
def test_batches(a: Sequence[int], b: Sequence[int], kernel: str, target: Target) -> None:
    for constant in (True, False):
        check(*make(kernel, a, b, constant=constant, target=target))


EPILOGUES: list[Any] = [
    pytest.param((5, 7), (7, 20), [(20,), (5, 20)], id="row and same"),
    pytest.param((5, 7), (7, 3), [(5, 1), (1,)], id="column and one"),
    pytest.param((2, 3, 5, 7), (7, 20), [(20,), (2, 3, 5, 20)], id="batch as rows"),
    pytest.param((2, 3, 5, 7), (7, 20), [(3, 1, 20), (2, 1, 5, 1)], id="batches kept"),
    pytest.param((2, 5, 7), (2, 7, 20), [(2, 1, 1), (5, 20)], id="one a batch"),
]


@pytest.mark.parametrize(("kernel", "target"), KERNELS)
@pytest.mark.parametrize(("a", "b", "operands"), EPILOGUES)
def test_epilogue(
    a: Sequence[int], b: Sequence[int], operands: Sequence[Sequence[int]], kernel: str,
    target: Target,
) -> None:  # fmt: skip
    epilogue = maximum(Arg(0) + Arg(1), -1.0) * Arg(2)
    check(*make(kernel, a, b, target=target, epilogue=epilogue, operands=operands))


def test_epilogue_that_vectors_cannot_have() -> None:
    """Through an integer, which render refuses for vectors: an element at a time then."""
    epilogue = Cast(DType.FLOAT32, Cast(DType.INT32, Arg(0) + Arg(1)))
    check(*make("matmul_tiled", (5, 7), (7, 37), epilogue=epilogue, operands=[(37,)]))


ROWS: list[Any] = [
    pytest.param((1, 300), (300, 130), {}, id="vector"),
    pytest.param((3, 17), (127, 17), {"tb": True, "constant": True}, id="three, b transposed"),
    pytest.param((2, 5, 1), (2, 5, 9), {"ta": True}, id="a transposed, batches"),
    pytest.param((1, 3), (3, 1), {}, id="one element, fewer terms than quarters"),
    pytest.param(
        (2, 40),
        (40, 70),
        {"operands": [(70,), (2, 1)], "epilogue": Arg(0) * Arg(1) - Arg(2)},
        id="epilogue",
    ),
]


@pytest.mark.parametrize(("a", "b", "options"), ROWS)
def test_rows(a: Sequence[int], b: Sequence[int], options: Any) -> None:
    check(*make("matmul_rows", a, b, target=GCN, **options))


@pytest.mark.parametrize(("kernel", "target"), [*KERNELS, pytest.param("matmul_rows", GCN)])
def test_nan_and_infinity_come_through(kernel: str, target: Target) -> None:
    """And stay in their row and column: tiles that reach outside must not spread them."""
    case, _ = make(kernel, (3, 5), (5, 19), target=target)
    case.feeds["a"][0, 2], case.feeds["b"][1, 18] = np.nan, np.inf
    found = run_case(case, pocl_device())
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1:, :18]).all()
    assert np.isinf(found[1:, 18]).all()


LANES: list[Any] = [
    pytest.param((5, 3), (3, 7), {}, id="fewer terms than a quad"),
    pytest.param((18, 17), (17, 129), {}, id="a lane in a second group"),
    pytest.param((13, 9), (130, 9), {"tb": True}, id="b transposed"),
    pytest.param((2, 1, 5, 7), (3, 7, 12), {}, id="batches"),
    pytest.param(
        (2, 9, 258),
        (2, 258, 6),
        {"operands": [(6,), (2, 9, 6)], "epilogue": maximum(Arg(0) + Arg(1), -1.0) * Arg(2)},
        id="slices of batches",
    ),
    pytest.param(
        (37, 6), (6, 4), {"operands": [(37, 1)], "epilogue": Arg(0) - Arg(1)}, id="epilogue"
    ),
]
WIDE = replace(GCN, compute_units=36)


@pytest.mark.parametrize(("a", "b", "options"), LANES)
def test_lanes(a: Sequence[int], b: Sequence[int], options: Any) -> None:
    case, expected = make("matmul_lanes", a, b, target=WIDE, constant=True, **options)
    assert chosen(case.call, case.constants, WIDE) == "matmul_lanes"
    check(case, expected)


@pytest.mark.parametrize(
    ("rows", "columns", "tile"), [(61, 1021, ("32", "2")), (16, 4093, ("16", "4"))]
)
def test_largest_tiles(rows: int, columns: int, tile: tuple[str, str]) -> None:
    """Rows that overlap, and columns that end within a lane."""
    one_unit = replace(GCN, compute_units=1)
    case, expected = make("matmul_lanes", (rows, 9), (9, columns), target=one_unit, constant=True)
    context = Context(one_unit, case.constants.get)
    (launch,) = REGISTRY.get("matmul_lanes").launches(case.call, context)
    defines = dict(launch.defines)
    assert (defines["TM"], defines["TN"]) == tile
    check(case, expected)


def test_long_sums_are_sliced_where_groups_are_few() -> None:
    """Two launches, and the terms of the slices are all of them."""
    case, expected = make("matmul_lanes", (16, 2050), (2050, 8), target=WIDE, constant=True)
    context = Context(WIDE, case.constants.get)
    launches = REGISTRY.get("matmul_lanes").launches(case.call, context)
    assert [launch.kernel for launch in launches] == ["matmul_lanes", "matmul_sum"]
    assert launches[0].global_size[2] == 8
    check(case, expected)


def test_the_engine_chooses() -> None:
    for name, a, b, options in (
        ("matmul_tiled", (3, 5), (5, 9), {}),
        ("matmul_lanes", (5, 5), (5, 9), {"target": GCN, "constant": True}),
        ("matmul_local", (5, 5), (5, 9), {"target": GCN}),
        ("matmul_local", (5, 5), (9, 5), {"target": GCN, "tb": True}),
        ("matmul_local", (5, 5), (5, 9), {"target": GCN, "ta": True}),
        ("matmul_rows", (4, 5), (5, 9), {"target": GCN}),
        ("matmul_rows", (1, 5), (9, 5), {"target": GCN, "tb": True, "constant": True}),
        ("matmul_local", (1, 5), (9, 5), {"target": GCN, "tb": True}),
        ("matmul_lanes", (8, 1, 5), (5, 9), {"target": GCN, "constant": True}),
    ):
        case, _ = make(name, a, b, **options)
        assert chosen(case.call, case.constants, case.target) == name


def test_what_no_kernel_takes() -> None:
    case, _ = make("matmul_tiled", (3, 5), (5, 9))
    whole = replace(case.call.output, dtype=DType.INT32)
    empty = (value("a", (3, 0)), value("b", (0, 9)))
    for target in (CPU8, GCN):
        assert chosen(replace(case.call, output=whole), {}, target) is None
        assert chosen(replace(case.call, inputs=empty), {}, target) is None


def test_an_empty_product_needs_no_launch() -> None:
    for kernel, target in (("matmul_tiled", CPU8), ("matmul_local", GCN), ("matmul_rows", GCN)):
        case, _ = make(kernel, (0, 5), (5, 9), target=target)
        assert REGISTRY.get(kernel).launches(case.call, Context(target, {}.get)) == []


def test_rusticl(tmp_path: Path) -> None:
    made = [make("matmul_local", *p.values, target=GCN) for p in (*SIZES, *BATCHES)]
    for a, b, ta, tb in TRANSPOSED:
        made.append(make("matmul_local", a, b, ta=ta, tb=tb, target=GCN))
    made += [make("matmul_rows", *p.values[:2], target=GCN, **p.values[2]) for p in ROWS]
    wide: dict[str, Any] = {"target": WIDE, "constant": True}
    made += [make("matmul_lanes", *p.values[:2], **wide, **p.values[2]) for p in LANES[1::3]]
    results = run_on_rusticl([case for case, _ in made], tmp_path)
    for found, (_, expected) in zip(results, made, strict=True):
        agree(found, expected)


@settings(max_examples=12)
@given(st.integers(8, 40), st.integers(1, 40), st.integers(16, 70), st.booleans(), st.booleans())
def test_any_size(m: int, k: int, n: int, tb: bool, constant: bool) -> None:
    b = (n, k) if tb else (k, n)
    check(*make("matmul_tiled", (m, k), b, tb=tb, constant=constant))
