"""Expressions rendered to OpenCL C: accuracy over the whole range of floats, integers, casts.

Functions are compared with NumPy and SciPy in float64; the bounds are in units of the last place
of the exact result. Integer answers come from Python's own integers.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pyopencl as cl
import pytest
from kernel_harness import Array, pocl_device
from scipy import special

from rekindle._errors import UnsupportedOperatorError
from rekindle._types import DType
from rekindle.engine.compiler import compiler_for
from rekindle.engine.kernels._render import (
    LANES,
    compute_type,
    float_literal,
    prelude,
    render,
    result_dtype,
    storage_prelude,
    storage_type,
    vectorizable,
)
from rekindle.engine.program import OPTIONS
from rekindle.graph.expr import Arg, Cast, Const, Expr, call, exp, maximum, minimum, sigmoid, where
from rekindle.graph.ir import dtype_of, numpy_dtype

pytestmark = pytest.mark.opencl
X, Y, Z = Arg(0), Arg(1), Arg(2)
F32, F64, I32, I64, U8, BOOL = (
    DType.FLOAT32, DType.FLOAT64, DType.INT32, DType.INT64, DType.UINT8, DType.BOOL,
)  # fmt: skip


def compute(exprs: Sequence[Expr], arrays: Sequence[Array], lanes: int = 1) -> list[Array]:
    """Every expression of the arrays, by one kernel on PoCL."""
    dtypes = [dtype_of(a) for a in arrays]
    names = [f"a{i}" for i in range(len(arrays))]
    outs = [result_dtype(e, dtypes) for e in exprs]
    vector = f"float{lanes}" if lanes > 1 else ""
    kinds = [vector or storage_type(d) for d in (*dtypes, *outs)]
    params = [f"__global {k} *p{i}" for i, k in enumerate(kinds)]
    body = []
    for i, dtype in enumerate(dtypes):
        load = f"p{i}[i]" if vector else f"rk1_load({kinds[i]}, p{i}, i)"
        body.append(f"const {vector or compute_type(dtype)} a{i} = {load};")
    for k, expr in enumerate(exprs, len(arrays)):
        text = render(expr, names, dtypes, lanes=lanes)
        body.append(f"p{k}[i] = {text};" if vector else f"rk1_store({kinds[k]}, p{k}, i, {text});")
    source = storage_prelude() + "".join(prelude(n) for n in dict.fromkeys((1, lanes)))
    source += f"__kernel void f({', '.join(params)}) {{ int i = get_global_id(0); "
    source += "\n".join(body) + "}"
    context = compiler_for(pocl_device()).context
    kernel = cl.Kernel(cl.Program(context, source).build(list(OPTIONS), cache_dir=False), "f")
    queue, flags = cl.CommandQueue(context), cl.mem_flags.COPY_HOST_PTR
    results = [np.zeros(len(arrays[0]), numpy_dtype(d)) for d in outs]
    buffers = [
        cl.Buffer(context, flags, hostbuf=np.ascontiguousarray(a)) for a in (*arrays, *results)
    ]
    kernel.set_args(*buffers)
    cl.enqueue_nd_range_kernel(queue, kernel, (len(arrays[0]) // lanes,), None)
    for buffer, result in zip(buffers[len(arrays) :], results, strict=True):
        cl.enqueue_copy(queue, result, buffer, is_blocking=True)
    return results


@functools.cache
def sample() -> Array:
    """Floats of every exponent and sign, dense ordinary ones, and the odd ones, shuffled so that
    each vector holds large beside small.
    """
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 1 << 15, dtype=np.uint64).astype(np.uint32).view(np.float32)
    # NaN of every kind would warn in comparisons of a signalling one.
    bits[np.isnan(bits)] = math.nan
    odd = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, 0.5, 1.5, 2.5,
           -0.5, -1.5, 8388607.5, -8388608.0, 4194304.5, 88.72, 88.73, -87.4, -103.97, -104.0,
           0.625, 0.92, 4.0]  # fmt: skip
    parts = [bits, odd, rng.uniform(-1, 1, 8000), rng.uniform(-12, 12, 8000)]
    x = np.concatenate([*parts, rng.uniform(-110, 110, 8000)]).astype(np.float32)
    return rng.permutation(x)[: len(x) // 16 * 16].copy()


FUNCTIONS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "exp": (np.exp, 1.5), "tanh": (np.tanh, 2), "erf": (special.erf, 2), "log": (np.log, 3),
    "sqrt": (np.sqrt, 3), "sin": (np.sin, 4), "cos": (np.cos, 4), "tan": (np.tan, 5),
    "asin": (np.arcsin, 4), "acos": (np.arccos, 4), "atan": (np.arctan, 5), "sinh": (np.sinh, 4),
    "cosh": (np.cosh, 4), "asinh": (np.arcsinh, 4), "acosh": (np.arccosh, 4),
    "atanh": (np.arctanh, 5), "floor": (np.floor, 0), "ceil": (np.ceil, 0), "round": (np.rint, 0),
    "abs": (np.abs, 0), "sign": (np.sign, 0), "neg": (np.negative, 0), "recip": (np.reciprocal, 1),
}  # fmt: skip
"""Reference, and the error allowed in units of the last place. OpenCL 1.2 table 7.1 allows the
built-in functions 3 to 5; exp, tanh and erf are our own."""


@pytest.mark.parametrize("lanes", LANES)
def test_functions_are_accurate_everywhere(lanes: int) -> None:
    x = sample()
    found = compute([call(name, X) for name in FUNCTIONS], [x], lanes)
    for (name, (reference, ulps)), y in zip(FUNCTIONS.items(), found, strict=True):
        with np.errstate(all="ignore"):
            exact = reference(x.astype(np.float64))
            nearest = exact.astype(np.float32)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(nearest), name)
        np.testing.assert_array_equal(np.isinf(y), np.isinf(nearest), name)
        fine = np.isfinite(nearest)
        unit = np.maximum(np.spacing(np.abs(nearest[fine])), np.float32(1e-45)).astype(np.float64)
        error = np.abs(y[fine] - exact[fine]) / unit
        worst = error.argmax()
        assert error[worst] <= ulps, (name, lanes, x[fine][worst], y[fine][worst], error[worst])


@pytest.mark.parametrize("lanes", LANES)
def test_activations_are_accurate(lanes: int) -> None:
    """Sigmoid, SiLU, GELU and its tanh form: within 1e-6 of the exact value and 1e-6 of one."""
    x = sample()
    gelu = 0.5 * X * (1.0 + call("erf", X * math.sqrt(0.5)))
    inner = math.sqrt(2 / math.pi) * (X + 0.044715 * call("pow", X, 3.0))
    exprs = [sigmoid(X), X * sigmoid(X), gelu, 0.5 * X * (1.0 + call("tanh", inner))]
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        exact = [
            special.expit(wide), wide * special.expit(wide), wide * special.ndtr(wide),
            0.5 * wide * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3))),
        ]  # fmt: skip
    for y, expected in zip(compute(exprs, [x], lanes), exact, strict=True):
        # Beyond 1e12 the cube overflows in float32 as it does in any float32 GELU.
        small = np.abs(wide) < 1e12
        np.testing.assert_allclose(y[small], expected[small], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("lanes", LANES)
def test_two_operands_and_conditions(lanes: int) -> None:
    """NaN comes through max and min on either side; mod has the divisor's sign, fmod C's."""
    rng = np.random.default_rng(1)
    x = rng.permutation(np.concatenate([sample()[:2000], rng.uniform(-9, 9, 2000)]))[:3200]
    y = rng.permutation(np.concatenate([sample()[:2000], rng.integers(-3, 4, 2000)]))[:3200]
    x, y = x.astype(np.float32), y.astype(np.float32)
    exprs = {
        "max": (maximum(X, Y), np.maximum), "min": (minimum(X, Y), np.minimum),
        "max const": (maximum(2.0, X), lambda a, b: np.maximum(a, 2)),
        "min const": (minimum(X, 0.5), lambda a, b: np.minimum(a, np.float32(0.5))),
        "div": (X / Y, np.divide), "fmod": (call("fmod", X, Y), np.fmod),
        "where": (where(call("le", X, Y), X, Y * 2.0), lambda a, b: np.where(a <= b, a, b * 2)),
        "logic": (where(call("xor", X < Y, call("not", call("isinf", X))), 1.0, 0.0),
                  lambda a, b: ((a < b) ^ ~np.isinf(a)).astype(np.float32)),
        "eq": (Cast(F32, call("or", call("eq", X, Y), call("isnan", Y))),
               lambda a, b: ((a == b) | np.isnan(b)).astype(np.float32)),
    }  # fmt: skip
    found = compute([e for e, _ in exprs.values()], [x, y], lanes)
    for (name, (_, reference)), z in zip(exprs.items(), found, strict=True):
        with np.errstate(all="ignore"):
            expected = reference(x, y).astype(np.float32)
        np.testing.assert_allclose(z, expected, rtol=1e-7, atol=0, err_msg=name)
    (mod,) = compute([call("mod", X, Y)], [x, y], lanes)
    fine = np.isfinite(x) & np.isfinite(y) & (y != 0)
    expected = np.mod(x[fine], y[fine])
    np.testing.assert_allclose(mod[fine], expected, rtol=1e-5, atol=1e-6)
    assert np.isnan(mod[y == 0]).all()


def test_pow() -> None:
    rng = np.random.default_rng(2)
    base = np.concatenate([rng.uniform(0, 20, 500), [0.0, -2.0, -2.0, -3.0, np.inf, np.nan, 1.0]])
    power = np.concatenate([rng.uniform(-6, 6, 500), [0.0, 3.0, 0.5, -2.0, 2.0, 0.0, np.nan]])
    x, y = base.astype(np.float32), power.astype(np.float32)
    exprs = [call("pow", X, Y), call("pow", X, 2.0), call("pow", X, 3), call("pow", 2.0, Y)]
    with np.errstate(invalid="ignore"):
        wide = x.astype(np.float64), y.astype(np.float64)
        expected = [wide[0] ** wide[1], wide[0] ** 2, wide[0] ** 3, 2.0 ** wide[1]]
    for z, exact in zip(compute(exprs, [x, y]), expected, strict=True):
        np.testing.assert_allclose(z, exact.astype(np.float32), rtol=2e-6)


def wrapped(value: int, dtype: np.dtype[Any]) -> int:
    bits = 8 * dtype.itemsize
    value %= 2**bits
    return value - 2**bits if dtype.kind == "i" and value >= 2 ** (bits - 1) else value


def truncated(a: int, b: int) -> int:
    if b == 0:
        return 0
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def power(a: int, b: int) -> int:
    if b >= 0:
        return a**b if b < 300 else pow(a, b, 2**64)
    return a if abs(a) == 1 and b % 2 else int(abs(a) == 1)


INTEGER = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": truncated,
    "fmod": lambda a, b: a - b * truncated(a, b) if b else 0, "mod": lambda a, b: a % b if b else 0,
    "max": max, "min": min, "pow": power,
}  # fmt: skip


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "uint32", "int32", "int64", "uint64"])
def test_integers(name: str) -> None:
    """Every operation, at the edges too: overflow wraps, division by zero gives 0, no trap."""
    dtype = np.dtype(name)
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(3)
    edges = [limits.min, limits.min + 1, 0, 1, 2, 3, 7, limits.max - 1, limits.max]
    edges += [-1, -2, -7] if dtype.kind == "i" else []
    pairs = [(a, b) for a in edges for b in edges]
    pairs += [tuple(map(int, rng.integers(0, 100, 2))) for _ in range(100)]
    x, y = (np.array(column, dtype) for column in zip(*pairs, strict=True))
    unary = {"neg": operator.neg, "abs": abs, "sign": lambda a: (a > 0) - (a < 0)}
    exprs = [call(op, X, Y) for op in INTEGER] + [call(op, X) for op in unary]
    found = compute([*exprs, X < Y, call("eq", X, Y)], [x, y])
    ints = [(int(a), int(b)) for a, b in zip(x, y, strict=True)]
    for (op, function), z in zip(INTEGER.items(), found, strict=False):
        expected = [wrapped(function(a, b), dtype) for a, b in ints]
        assert z.tolist() == expected, op
    for (op, single), z in zip(unary.items(), found[len(INTEGER) :], strict=False):
        assert z.tolist() == [wrapped(single(a), dtype) for a, _ in ints], op
    assert found[-2].tolist() == [a < b for a, b in ints]
    assert found[-1].tolist() == [a == b for a, b in ints]


def test_casts() -> None:
    """In range as NumPy; NaN and numbers out of range give the smallest integer, as on x86."""
    x = np.array([0.9, -0.9, 3.5, -3.5, 127, -128, 65504, 1e-3, 2**31 - 128, -(2**31), np.nan,
                  np.inf, -np.inf, 3e9, 1e30, 0.0], np.float32)  # fmt: skip
    targets = [I32, I64, DType.INT8, DType.BOOL, DType.FLOAT16, DType.BFLOAT16, DType.UINT64]
    found = dict(zip(targets, compute([Cast(t, X) for t in targets], [x]), strict=True))
    whole = [0, 0, 3, -3, 127, -128, 65504, 0, 2**31 - 128, -(2**31)]
    assert found[I32].tolist() == whole + [-(2**31)] * 5 + [0]
    assert found[I64].tolist() == [*whole, *[-(2**63)] * 3, 3_000_000_000, -(2**63), 0]
    assert found[DType.INT8].tolist()[:6] == whole[:6]
    assert found[DType.UINT64].tolist()[:3] == [0, 0, 3]
    assert found[DType.BOOL].tolist() == (x != 0).tolist()
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found[DType.FLOAT16], x.astype(np.float16))
    np.testing.assert_array_equal(
        found[DType.BFLOAT16].astype(np.float32), x.astype(ml_dtypes.bfloat16).astype(np.float32)
    )
    ints = np.array([-1, 0, 1, 300, 2**31 - 1, -(2**31)], np.int32)
    exprs = [Cast(U8, X), Cast(F32, X), Cast(BOOL, X), Cast(I64, X), Cast(DType.UINT32, X)]
    for expr, z in zip(exprs, compute(exprs, [ints]), strict=True):
        assert z.tolist() == ints.astype(numpy_dtype(expr.dtype)).tolist(), expr


def test_sixteen_bit_floats_round_when_stored_or_cast() -> None:
    x = np.linspace(-70, 70, 999).astype(np.float16)
    y = np.linspace(-70, 70, 999).astype(ml_dtypes.bfloat16)
    half, brain, cast = compute(
        [X * 1.01, Y * 1.01, Cast(F32, Cast(DType.FLOAT16, Cast(F32, Y) * 1.01))], [x, y]
    )
    np.testing.assert_array_equal(half, (x.astype(np.float32) * np.float32(1.01)).astype("f2"))
    exact = y.astype(np.float32) * np.float32(1.01)
    np.testing.assert_array_equal(brain.view(np.uint16), exact.astype(brain.dtype).view(np.uint16))
    np.testing.assert_array_equal(cast, exact.astype(np.float16).astype(np.float32))


def test_doubles() -> None:
    x = np.array([0.1, -2.5, 1e300, np.nan, np.inf, 7.0, -7.0], np.float64)
    y = np.array([3.0, 2.0, 1e-300, 1.0, 2.0, np.nan, 3.0], np.float64)
    exprs = [exp(X), maximum(X, Y), call("mod", X, Y), call("erf", X), Cast(I32, X), X * 0.1]
    found = compute(exprs, [x, y])
    with np.errstate(all="ignore"):
        expected = [np.exp(x), np.maximum(x, y), np.mod(x, y), special.erf(x)]
    for z, exact in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_allclose(z, exact, rtol=1e-14)
    np.testing.assert_allclose(found[2][[0, 1, 6]], expected[2][[0, 1, 6]], rtol=1e-14)
    np.testing.assert_allclose(found[3], expected[3], rtol=1e-14)
    assert found[4].tolist() == [0, -2, *[-(2**31)] * 3, 7, -7]
    np.testing.assert_allclose(found[5], x * 0.1, rtol=1e-15)


def test_constants_take_the_dtype_of_what_they_meet() -> None:
    assert result_dtype(X + 1.0, [I32]) is I32
    assert result_dtype(X + 1, [F32]) is F32
    assert result_dtype(X + Y, [F32, BOOL]) is F32
    assert result_dtype(X + Y, [DType.INT8, DType.UINT8]) is DType.INT16
    assert result_dtype(X + Y, [DType.FLOAT16, I32]) is DType.FLOAT16
    assert result_dtype(call("pow", X, Y), [F32, I64]) is F32
    assert result_dtype(where(X < 0, Y, 1.0), [F32, I64]) is I64
    assert result_dtype(where(X < 0, 1, 0.5), [I32]) is F32
    assert result_dtype(where(X < 0, 1, 0) * 2, [F32]) is I64
    assert [result_dtype(Const(c), []) for c in (1.5, 3, True)] == [F32, I64, BOOL]
    x = np.array([1, 2, 3], np.int64)
    found = compute([X * 2.0, (Const(2) + Const(3)) * X, where(X < 2, 5, 3) + X], [x])
    assert [z.tolist() for z in found] == [[2, 4, 6], [5, 10, 15], [6, 5, 6]]
    (chosen,) = compute([where(X < 2, Const(1.0) / 2, 0.25)], [x])
    assert chosen.tolist() == [0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("expr", "dtypes"),
    [
        (exp(X), [I32]), (X + 0.5, [I32]), (X + 300, [U8]), (call("pow", X, Y), [I32, F32]),
        (X + Y, [I64, DType.UINT64]), (call("neg", X) * math.inf, [I64]),
    ],
)  # fmt: skip
def test_refuses_what_has_no_meaning(expr: Expr, dtypes: list[DType]) -> None:
    with pytest.raises(UnsupportedOperatorError):
        render(expr, ["x", "y"], dtypes)


def test_strings_have_no_type_on_a_device() -> None:
    with pytest.raises(UnsupportedOperatorError, match="no OpenCL type holds str"):
        storage_type(DType.STRING)


def test_vectors_hold_floats_only() -> None:
    assert vectorizable(where(X < Y, X, 0.0), [F32, F32])
    assert not vectorizable(X < Y, [F32, F32])
    assert not vectorizable(Cast(F32, Cast(I32, X)), [F32])
    assert not vectorizable(X + Y, [F32, I32])
    with pytest.raises(UnsupportedOperatorError, match="vectors"):
        render(X + 1, ["x"], [I32], lanes=16)
    with pytest.raises(ValueError, match="lanes is 3"):
        prelude(3)


def test_literals_are_the_nearest_floats() -> None:
    numbers = [0.1, -0.0, 1e-45, -3.4e38, 1 / 3, 1e10, 123456789.0]
    for number in numbers:
        text = float_literal(number).strip("()").rstrip("f")
        assert np.float32(text).view(np.uint32) == np.float32(number).view(np.uint32)
    assert float_literal(math.nan) == "NAN"
    assert [float_literal(n) for n in (1e39, -math.inf)] == ["INFINITY", "(-INFINITY)"]
