"""The elementwise kernel against NumPy: broadcasting, layouts, dtypes, tails, special values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_cases import assert_close, case, on, run_together, special_values
from kernel_harness import CPU16, GCN, Array, Case, chosen, run_on_rusticl, value

from rekindle._types import DType
from rekindle.graph.expr import Arg, Cast, call, exp, maximum, minimum, sigmoid, where
from rekindle.graph.ir import dtype_of
from rekindle.graph.lowering import LogicalCall

pytestmark = pytest.mark.opencl

X, Y, Z = Arg(0), Arg(1), Arg(2)
SUM = X + Y * 2.0
TARGETS = pytest.mark.parametrize("target", [CPU16, GCN], ids=lambda t: t.family)


def floats(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape, np.float32)


def sums(a: tuple[int, ...], b: tuple[int, ...], *blocks: int) -> tuple[Case, Array]:
    """Case and result of x + 2 y for those shapes; exact in float32 arithmetic."""
    x, y = floats(*a), floats(*b, seed=2)
    expected = x + y * np.float32(2)
    out = (DType.FLOAT32, expected.shape)
    if not blocks:
        return case("elementwise", {"x": x, "y": y}, out, expr=SUM), expected
    made = case(
        "elementwise", {"x": x, "y": y}, out, blocks=blocks, out_block=max(blocks), expr=SUM
    )
    return made, expected


def check(pairs: list[tuple[Case, Array]], target: Any, rtol: float = 2e-6) -> None:
    found = run_together(on(target, [c for c, _ in pairs]))
    for (c, expected), y in zip(pairs, found, strict=True):
        assert_close(y, expected, c.call, rtol)


@TARGETS
def test_rows_of_any_rank_and_length(target: Any) -> None:
    shapes = [(), (1,), (3,), (13,), (127,), (16,), (5000,), (3, 13), (2, 3, 5, 7), (1, 1, 1),
              (2, 1, 3, 1, 2, 1), (33, 128)]  # fmt: skip
    check([sums(s, s) for s in shapes] + [sums(s, ()) for s in shapes[-4:]], target)


@TARGETS
def test_broadcasting(target: Any) -> None:
    pairs = [
        ((2, 3, 5), (5,)), ((4, 32), (32,)), ((4, 32), (4, 1)), ((3, 1), (1, 13)),
        ((2, 1, 4, 1), (1, 3, 1, 5)), ((2, 3, 1, 16), (1, 1, 4, 1)), ((127,), (1,)),
        ((2, 2, 2, 2, 2, 2), (2, 1, 2, 1, 2, 1)), ((1, 7), (9, 1, 1)), ((40, 1), (1, 208)),
        ((3, 5, 16), (3, 1, 16)), ((1, 4, 48), (5, 1, 1)),
    ]  # fmt: skip
    check([sums(a, b) for a, b in pairs] + [sums(b, a) for a, b in pairs], target)


@TARGETS
def test_blocked_layouts(target: Any) -> None:
    """Channels past C must come out as zero, whatever the expression makes of zero."""
    c = target.channel_block
    shapes = [((2, ch, 3, 5), (2, ch, 3, 5)) for ch in (1, 3, c, c + 1, 2 * c, 50)]
    pairs = [sums(a, b, c, c) for a, b in shapes]
    for ch in (1, 3, c, c + 3, 2 * c):
        full = (2, ch, 4, 3)
        pairs += [
            sums(full, other, c, block)
            for other, block in [
                ((ch, 1, 1), 0), ((1, ch, 1, 1), 0), ((2, ch, 1, 1), 0), ((2, ch, 1, 1), c),
                ((1, 1, 4, 3), 0), ((2, 1, 4, 3), c), ((1, 1, 1, 1), c), ((), 0), (full, 0),
                ((3,), 0), ((4, 1), 0),
            ]
        ]  # fmt: skip
    pairs += [sums((2, ch), (2, ch), c, c) for ch in (5, 2 * c)]
    pairs += [sums((1, 7, 5), (7, 1), c, 0), sums((1, 2 * c, 1, 1), (2 * c, 1, 1), c, 0)]
    check(pairs, target)


@TARGETS
def test_blocked_values_of_other_types(target: Any) -> None:
    c = target.channel_block
    x = floats(2, c + 3, 3, 2)
    ints = np.arange(x.size, dtype=np.int32).reshape(x.shape)
    slope = np.arange(c + 3, dtype=np.int32).reshape(-1, 1, 1)
    pairs = [
        (case("elementwise", {"x": x}, (DType.BOOL, x.shape), blocks=(c,), out_block=c,
              expr=X < 0.5), x < 0.5),
        (case("elementwise", {"x": ints, "s": slope}, (DType.INT32, x.shape), blocks=(c,),
              out_block=c, expr=X + Y + 1), ints + slope + 1),
        (case("elementwise", {"x": x}, (DType.FLOAT16, x.shape), blocks=(c,), out_block=c,
              expr=Cast(DType.FLOAT16, X * 3.0)), (x * 3).astype(np.float16)),
    ]  # fmt: skip
    check(pairs, target)


@TARGETS
def test_activations_on_special_values(target: Any) -> None:
    x = special_values(301)
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        expected = {
            "relu": np.where(np.isnan(x), x, np.maximum(x, 0)),
            "sigmoid": 1 / (1 + np.exp(-wide)),
            "silu": wide / (1 + np.exp(-wide)),
            "tanh": np.tanh(wide),
            "clip": np.clip(x, -1, 6),
            "hard_swish": wide * np.clip(wide / 6 + 0.5, 0, 1),
            "softplus": np.logaddexp(0, wide),
            "leaky": np.where(x < 0, x * np.float32(0.01), x),
            "abs_neg": -np.abs(x),
            "reciprocal": 1 / wide,
        }
    exprs = {
        "relu": maximum(X, 0.0), "sigmoid": sigmoid(X), "silu": X * sigmoid(X),
        "tanh": call("tanh", X), "clip": minimum(maximum(X, -1.0), 6.0),
        "hard_swish": X * minimum(maximum(X * (1 / 6) + 0.5, 0.0), 1.0),
        "softplus": maximum(X, 0.0) + call("log", 1.0 + exp(-call("abs", X))),
        "leaky": where(X < 0.0, X * 0.01, X), "abs_neg": -call("abs", X),
        "reciprocal": call("recip", X),
    }  # fmt: skip
    pairs = []
    for name, expr in exprs.items():
        with np.errstate(over="ignore"):
            y = expected[name].astype(np.float32)
        pairs.append((case("elementwise", {"x": x}, (DType.FLOAT32, x.shape), expr=expr), y))
    found = run_together(on(target, [c for c, _ in pairs]))
    for name, (_, y), got in zip(exprs, pairs, found, strict=True):
        # hard_swish and softplus lose bits near their zeros, as they do in NumPy's float32.
        atol = 3e-7 if name in ("hard_swish", "softplus") else 1e-37
        np.testing.assert_allclose(got, y, rtol=3e-6, atol=atol, err_msg=name)


DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
          "float32", "bool")  # fmt: skip


def test_every_dtype() -> None:
    """max(x, y) of each dtype; comparisons of some. GPUs run the same scalar code."""
    rng = np.random.default_rng(5)
    pairs = []
    for name in DTYPES:
        x, y = (rng.integers(0, 2 if name == "bool" else 100, 77).astype(name) for _ in range(2))
        feeds, dtype = {"x": x, "y": y}, dtype_of(x)
        made = case("elementwise", feeds, (dtype, x.shape), expr=maximum(X, Y))
        pairs.append((made, np.maximum(x, y)))
        if name in ("uint8", "int64", "float16"):
            made = case("elementwise", feeds, (DType.BOOL, x.shape), expr=X < Y)
            pairs.append((made, x < y))
    check(pairs, CPU16)


def test_many_inputs_and_a_repeated_one() -> None:
    arrays = {f"x{i}": floats(3, 1 + 4 * (i % 2), seed=i) for i in range(11)}
    total: Any = Arg(0)
    for i in range(1, 11):
        total = total + Arg(i)
    expected = sum(arrays.values())
    made = case("elementwise", arrays, (DType.FLOAT32, (3, 5)), expr=total * Arg(0))
    check([(made, (expected * arrays["x0"]).astype(np.float32))], CPU16, rtol=1e-5)


def test_inputs_the_expression_does_not_read_are_left_out() -> None:
    x, y = floats(4, 4), floats(9, seed=3)
    made = case("elementwise", {"y": y, "x": x}, (DType.FLOAT32, (4, 4)), expr=Arg(1) * 3.0)
    check([(made, x * 3)], CPU16)


def test_conditions_select_and_combine() -> None:
    x, y, z = floats(5, 7), floats(7, seed=2), floats(5, 1, seed=4)
    both = call("and", X < Y, call("not", call("isnan", Z)))
    expected = np.where((x < y) & ~np.isnan(z), x, np.broadcast_to(z, x.shape))
    made = case("elementwise", {"x": x, "y": y, "z": z}, (DType.FLOAT32, (5, 7)),
                expr=where(both, X, Z))  # fmt: skip
    check([(made, expected)], CPU16)


def test_empty_output_needs_no_launch() -> None:
    x = np.zeros((0, 3), np.float32)
    from rekindle.engine import kernels

    made = case("elementwise", {"x": x}, (DType.FLOAT32, (0, 3)), expr=-X)
    spec = kernels.REGISTRY.get("elementwise")
    context = kernels.Context(made.target, {}.get)
    assert spec.score(made.call, context) > 0
    assert list(spec.launches(made.call, context)) == []


@pytest.mark.parametrize(
    ("inputs", "out", "expr"),
    [
        ([value("x", (2, 3), 16)], value("out", (2, 3)), X),
        ([value("x", (3,), 0)], value("out", (3,)), call("exp", Cast(DType.INT32, X))),
        ([value("x", np.zeros(2, np.float64))], value("out", (2,)), X),
    ],
    ids=["mixed layouts", "exp of integers", "float64 without the extension"],
)
def test_refuses_what_it_cannot_do(inputs: list[Any], out: Any, expr: Any) -> None:
    made = LogicalCall("elementwise", tuple(inputs), out, {"expr": expr}, "n")
    assert chosen(made, {}, CPU16) is None


def test_launches_of_one_pattern_share_a_program() -> None:
    """Sizes are run-time arguments: other shapes of the same broadcast pattern build nothing."""
    from rekindle.engine import kernels

    spec = kernels.REGISTRY.get("elementwise")

    def defines(a: tuple[int, ...], b: tuple[int, ...]) -> Any:
        made, _ = sums(a, b)
        (launch,) = spec.launches(made.call, kernels.Context(CPU16, {}.get))
        return launch.defines

    assert defines((4, 33), (4, 1)) == defines((9, 21), (9, 1))
    assert defines((64,), (64,)) == defines((2, 3, 5), (2, 3, 5))


def test_on_rusticl(tmp_path: Path) -> None:
    pairs = [sums((2, 3, 5), (5,)), sums((1001,), (1001,)), sums((2, 7, 3, 3), (7, 1, 1), 4, 0)]
    x = special_values(64)
    pairs.append(
        (case("elementwise", {"x": x}, (DType.FLOAT32, x.shape), expr=call("tanh", X)), np.tanh(x))
    )
    cases = on(GCN, [c for c, _ in pairs])
    for (c, expected), found in zip(pairs, run_on_rusticl(cases, tmp_path), strict=True):
        assert_close(found, expected, c.call)
