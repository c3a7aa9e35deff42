"""Convolutions and products on 16-bit values and on weights of every storage type.

What is right is computed in float64 from the numbers that the stored bits stand for, so that only
the rounding of the result may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from conv_cases import reference
from kernel_cases import case as call_case
from kernel_harness import CPU8, CPU16, GCN, Case, pocl_device, run_case, run_on_rusticl, value
from test_kernels_attention import make as attention
from test_kernels_attention import reference as attention_reference

from rekindle._types import DType, Target
from rekindle.engine.compiler import compiler_for
from rekindle.engine.kernels import REGISTRY, Context
from rekindle.graph.decode import Decode
from rekindle.graph.expr import Arg, maximum
from rekindle.graph.lowering import LogicalCall

pytestmark = pytest.mark.opencl
Array = np.ndarray[Any, np.dtype[Any]]
WEIGHTS = ("float32", "float16", "bfloat16", "int8", "int4", "int8 groups", "int4 groups")
_NARROW = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
_ROUNDING = {np.float32: 2e-5, np.float16: 6e-4, ml_dtypes.bfloat16: 5e-3}
"""Of the largest element: half a unit in the last place, and what float32 sums may add."""


def stored(
    kind: str, shape: Sequence[int], outputs: int, inputs: int, group: int = 16
) -> tuple[Array, Decode | None, Array]:
    """Random weights of a kind, how they decode, and the numbers that they stand for (float64).

    `outputs`, `inputs`: the axes of the output and of the input channels.
    """
    rng = np.random.default_rng(sum(shape))
    if kind in _NARROW:
        w = rng.standard_normal(shape, np.float32).astype(_NARROW[kind])
        return w, None, w.astype(np.float64)
    low, high = (-8, 8) if kind.startswith("int4") else (-128, 128)
    q = rng.integers(low, high, shape, dtype=np.int8)
    sizes = [1] * len(shape)
    sizes[outputs] = shape[outputs]
    if kind.endswith("groups"):
        sizes = [n if axis != inputs else -(-n // group) for axis, n in enumerate(shape)]
        decode = Decode(rng.uniform(0.01, 0.1, sizes).astype(np.float32), inputs, group)
    else:
        decode = Decode(rng.uniform(0.01, 0.1, sizes).astype(np.float32))
    spread = decode.scale.astype(np.float64)
    if kind.endswith("groups"):
        spread = np.repeat(spread, group, inputs).take(range(shape[inputs]), inputs)
    return q, decode, q * spread


def convolution(
    kernel: str, x_shape: Sequence[int], w_shape: Sequence[int], weights: str, *,
    blocks: tuple[int, int], target: Target, group: int = 1, x_type: Any = np.float16,
    y_type: Any = np.float16, groups_of: int = 16,
) -> tuple[Case, Array]:  # fmt: skip
    """A 'same' convolution with a bias, a residual of y's type and a ReLU."""
    rng = np.random.default_rng(sum(x_shape))
    x = rng.standard_normal(x_shape, np.float32).astype(x_type)
    w, decode, numbers = stored(weights, w_shape, 0, 1, groups_of)
    bias = rng.standard_normal(w_shape[0], np.float32)
    pads = tuple(k // 2 for k in w_shape[2:]) * 2
    ones = (1,) * (len(x_shape) - 2)
    sums = reference(x.astype(np.float64), numbers, bias, ones, pads, ones, group)
    residual = rng.standard_normal(sums.shape, np.float32).astype(y_type)
    out = blocks[1]
    call = LogicalCall(
        "conv",
        (value("x", x, blocks[0]), value("w", w), value("b", bias), value("e", residual, out)),
        value("y", residual, out),
        {
            "strides": ones, "pads": pads, "dilations": ones, "group": group, "decode": decode,
            "epilogue": maximum(Arg(0) + Arg(1), 0.0),
        },
        "c",
    )  # fmt: skip
    case = Case(kernel, call, {"x": x, "e": residual}, {"w": w, "b": bias}, target)
    return case, np.maximum(sums + residual.astype(np.float64), 0.0)


def product(
    kernel: str, m: int, k: int, n: int, weights: str, *, target: Target, transposed: bool = False,
    a_type: Any = np.float16, y_type: Any = np.float16, group: int = 16,
) -> tuple[Case, Array]:  # fmt: skip
    """A product with a constant b, plus a row in float32."""
    rng = np.random.default_rng(m + k + n)
    a = rng.standard_normal((m, k), np.float32).astype(a_type)
    shape = (n, k) if transposed else (k, n)
    b, decode, numbers = stored(weights, shape, int(not transposed), int(transposed), group)
    row = rng.standard_normal(n, np.float32)
    expected = a.astype(np.float64) @ (numbers.T if transposed else numbers) + row
    y = value("y", np.empty(expected.shape, y_type))
    params = {
        "transpose_a": False, "transpose_b": transposed, "decode": decode,
        "epilogue": Arg(0) + Arg(1),
    }  # fmt: skip
    call = LogicalCall("matmul", (value("a", a), value("b", b), value("e", row)), y, params, "m")
    return Case(kernel, call, {"a": a, "e": row}, {"b": b}, target), expected


def agree(found: Array, expected: Array) -> None:
    assert found.shape == expected.shape
    difference = np.abs(found.astype(np.float64) - expected).max()
    assert difference <= _ROUNDING[found.dtype.type] * np.abs(expected).max()


def check(case: Case, expected: Array) -> None:
    agree(run_case(case, pocl_device()), expected)


def check_together(pairs: Sequence[tuple[Case, Array]]) -> None:
    """All in one program, which is built faster than many."""
    launches = [
        launch
        for case, _ in pairs
        for launch in REGISTRY.get(case.kernel).launches(
            case.call, Context(case.target, case.constants.get)
        )
    ]
    compiler_for(pocl_device()).prepare(launches)
    for case, expected in pairs:
        check(case, expected)


CONVOLUTIONS = [
    pytest.param("conv_tiled", (1, 40, 5, 7), (19, 40, 3, 3), (16, 16), CPU8, 1, id="tiled 8"),
    pytest.param("conv_tiled", (2, 40, 3, 3), (37, 40, 1, 1), (16, 16), CPU16, 1, id="tiled 16"),
    pytest.param("conv_stem", (1, 3, 9, 13), (19, 3, 3, 3), (0, 16), CPU8, 1, id="stem"),
    pytest.param("depthwise_tiled", (1, 19, 5, 9), (19, 1, 3, 3), (16, 16), CPU8, 19, id="depth"),
    pytest.param("conv_direct", (1, 20, 5, 3), (7, 20, 3, 1), (0, 0), CPU8, 1, id="direct"),
    pytest.param("conv_lanes", (1, 40, 5, 7), (19, 40, 3, 3), (4, 4), GCN, 1, id="lanes"),
    pytest.param("conv_lanes", (1, 3, 9, 13), (19, 3, 3, 3), (0, 4), GCN, 1, id="lanes, rows"),
    pytest.param("depthwise_lanes", (1, 19, 5, 9), (19, 1, 3, 3), (4, 4), GCN, 19, id="depth 4"),
]
PRODUCTS = [
    pytest.param("matmul_tiled", CPU8, id="tiled 8"),
    pytest.param("matmul_tiled", CPU16, id="tiled 16"),
    pytest.param("matmul_local", GCN, id="local"),
    pytest.param("matmul_rows", GCN, id="rows"),
]


@pytest.mark.parametrize(("kernel", "x", "w", "blocks", "target", "group"), CONVOLUTIONS)
def test_convolutions(
    kernel: str, x: Sequence[int], w: Sequence[int], blocks: tuple[int, int], target: Target,
    group: int,
) -> None:  # fmt: skip
    """Float results show that weights are decoded exactly, half ones how results are rounded."""
    options: dict[str, Any] = {"blocks": blocks, "target": target, "group": group}
    bfloat16: dict[str, Any] = {"x_type": ml_dtypes.bfloat16, "y_type": ml_dtypes.bfloat16}
    pairs = [convolution(kernel, x, w, kind, y_type=np.float32, **options) for kind in WEIGHTS]
    pairs.append(convolution(kernel, x, w, "float16", **options))
    pairs.append(convolution(kernel, x, w, "bfloat16", **options, **bfloat16))
    check_together(pairs)


def test_narrow_pixels_are_packed_as_float() -> None:
    """In half precision and as bfloat16, where many panels of outputs read them."""
    shapes: tuple[Any, ...] = ("conv_tiled", (1, 40, 4, 5), (250, 40, 1, 1))
    options: dict[str, Any] = {"blocks": (16, 16), "target": CPU8}
    bfloat16: dict[str, Any] = {"x_type": ml_dtypes.bfloat16, "y_type": ml_dtypes.bfloat16}
    pairs = [convolution(*shapes, kind, **options) for kind in ("float32", "int4 groups")]
    pairs.append(convolution(*shapes, "int8", **options, **bfloat16))
    for case, _ in pairs:
        made = REGISTRY.get("conv_tiled").launches(case.call, Context(CPU8, case.constants.get))
        assert [dict(launch.defines)["XT"] for launch in made][1:] == ["float"]
    check_together(pairs)


def test_winograd() -> None:
    """Its transforms enlarge the rounding of filters that are stored as half."""
    options: dict[str, Any] = {"blocks": (16, 16), "target": CPU8, "y_type": np.float32}
    for weights, accepted in (("float32", 2e-4), ("float16", 5e-3), ("int8", 5e-3)):
        shapes = (1, 19, 9, 11), (21, 19, 3, 3)
        case, expected = convolution("conv_winograd", *shapes, weights, **options)
        difference = np.abs(run_case(case, pocl_device()) - expected).max()
        assert difference <= accepted * np.abs(expected).max(), weights


@pytest.mark.parametrize(
    ("kernel", "block", "target"), [("conv_tiled", 16, CPU8), ("conv_lanes", 4, GCN)]
)
def test_merged_groups_keep_their_scales(kernel: str, block: int, target: Target) -> None:
    """Eight groups of four channels count as two of sixteen."""
    shapes = (1, 32, 3, 4), (32, 4, 3, 3)
    options: dict[str, Any] = {"group": 8, "y_type": np.float32, "blocks": (block, block)}
    kinds = ("int8", "int4", "bfloat16")
    check_together([convolution(kernel, *shapes, w, target=target, **options) for w in kinds])


@pytest.mark.parametrize(("kernel", "target"), PRODUCTS)
def test_products(kernel: str, target: Target) -> None:
    pairs, wide = [], {"a_type": np.float32}
    for weights in WEIGHTS:
        y_type = np.float16 if weights == "float16" else np.float32
        options: dict[str, Any] = {"target": target, "y_type": y_type}
        pairs.append(product(kernel, 3, 50, 37, weights, **options))
        if weights in ("int8", "int4 groups"):
            pairs.append(product(kernel, 3, 33, 5, weights, transposed=True, **options))
            pairs.append(product(kernel, 3, 70, 21, weights, group=32, **options, **wide))
    check_together(pairs)


def test_products_whose_rows_are_copied() -> None:
    """Rows in half precision are widened once, with whatever the weights are stored as."""
    target = replace(CPU8, compute_units=2)
    pairs = [product("matmul_tiled", 499, 272, 397, kind, target=target) for kind in WEIGHTS]
    for case, _ in pairs:
        (launch,) = REGISTRY.get("matmul_tiled").launches(
            case.call, Context(target, case.constants.get)
        )
        assert int(dict(launch.defines)["ROOM"]) > 0
    check_together(pairs)


def lanes() -> list[tuple[Case, Array]]:
    """A float a; few terms, and so many that the sum is cut into slices."""
    options: dict[str, Any] = {"target": replace(GCN, compute_units=36), "a_type": np.float32}
    kinds = [kind for kind in WEIGHTS if "groups" not in kind]
    pairs = [
        product("matmul_lanes", 9, 50, 37, kind, y_type=np.float32, **options) for kind in kinds
    ]
    for kind in ("int8", "float16"):
        pairs.append(product("matmul_lanes", 18, 514, 70, kind, transposed=True, **options))
    return pairs


def test_products_in_lanes() -> None:
    check_together(lanes())


@pytest.mark.parametrize(("kernel", "target"), PRODUCTS)
def test_computed_operands(kernel: str, target: Target) -> None:
    """Both ways round, few rows and many: packed first, or read as b lies."""
    rng, pairs = np.random.default_rng(3), []
    dtype = ml_dtypes.bfloat16 if target is CPU16 else np.float16
    cases = [(3, False, False), (20, True, True)]
    for m, ta, tb in cases[: 1 if kernel == "matmul_rows" else 2]:
        a = rng.standard_normal((21, m) if ta else (m, 21), np.float32).astype(dtype)
        b = rng.standard_normal((33, 21) if tb else (21, 33), np.float32).astype(dtype)
        left, right = (x.astype(np.float64) for x in (a, b))
        expected = (left.T if ta else left) @ (right.T if tb else right)
        params = {"transpose_a": ta, "transpose_b": tb, "epilogue": None}
        y = value("y", np.empty(expected.shape, dtype))
        call = LogicalCall("matmul", (value("a", a), value("b", b)), y, params, "m")
        pairs.append((Case(kernel, call, {"a": a, "b": b}, {}, target), expected))
    check_together(pairs)


def test_what_each_storage_type_takes_on_the_device() -> None:
    """Bytes of the packed weights of 64 x 64 pointwise filters, the scales beside them."""
    taken = {}
    for weights in WEIGHTS:
        case, _ = convolution(
            "conv_tiled", (1, 64, 3, 3), (64, 64, 1, 1), weights, blocks=(16, 16), target=CPU8
        )
        (launch,) = REGISTRY.get("conv_tiled").launches(
            case.call, Context(CPU8, case.constants.get)
        )
        taken[weights] = launch.args[1].nbytes  # type: ignore[union-attr]
    halves = dict.fromkeys(("float16", "bfloat16"), 8192)
    eighths = {"int4": 2048, "int4 groups": 2048}
    assert taken == {"float32": 16384, **halves, "int8": 4096, "int8 groups": 4096, **eighths}


def test_overflow_becomes_infinity_and_nan_stays() -> None:
    """Of the device's own stores: 65520 is the first number that rounds to infinity."""
    for kernel, blocks, target in (("conv_tiled", 16, CPU8), ("conv_lanes", 4, GCN)):
        case, _ = convolution(
            kernel, (1, 16, 2, 2), (16, 16, 1, 1), "float16", blocks=(blocks, blocks), target=target
        )
        case.feeds["x"][:] = 0
        case.feeds["e"][:] = 0
        case.constants["b"][:4] = 65519.0, 65520.0, np.nan, 6e-8
        y = run_case(case, pocl_device())[0, :4, 0, 0]
        np.testing.assert_array_equal(y, np.array([65504, np.inf, np.nan, 6e-8], np.float16))


def test_rusticl(tmp_path: Path) -> None:
    """The front-end that owners of a card use has its own vload_half."""
    made = []
    for parameters in CONVOLUTIONS:
        kernel, x, w, blocks, target, group = parameters.values
        options: dict[str, Any] = {"blocks": blocks, "target": target, "group": group}
        if target is GCN:
            made += [convolution(kernel, x, w, kind, **options) for kind in ("float16", "int8")]
    for kernel in ("matmul_local", "matmul_rows"):
        made += [product(kernel, 3, 50, 37, kind, target=GCN) for kind in WEIGHTS]
    made += lanes()
    results = run_on_rusticl([case for case, _ in made], tmp_path)
    for found, (_, expected) in zip(results, made, strict=True):
        agree(found, expected)


def test_integers_without_a_decoding_are_no_weights() -> None:
    case, _ = product("matmul_tiled", 3, 5, 7, "int8", target=CPU8)
    bare = replace(case.call, params={**case.call.params, "decode": None})
    assert REGISTRY.get("matmul_tiled").score(bare, Context(CPU8, case.constants.get)) == 0
    assert case.call.inputs[1] is not None
    assert case.call.inputs[1].dtype is DType.INT8


def halved(case: Case, *names: str) -> Case:
    """The case with these feeds, and the result, in half precision."""
    feeds = {n: a.astype(np.float16) if n in names else a for n, a in case.feeds.items()}
    inputs = tuple(
        replace(v, dtype=DType.FLOAT16) if v is not None and v.name in names else v
        for v in case.call.inputs
    )
    output = replace(case.call.output, dtype=DType.FLOAT16)
    return replace(case, call=replace(case.call, inputs=inputs, output=output), feeds=feeds)


@pytest.mark.parametrize(
    ("kernel", "target"),
    [("attention_tiled", CPU8), ("attention_direct", GCN), ("attention_lanes", GCN)],
)
def test_attention(kernel: str, target: Target) -> None:
    """Queries, keys and values of half precision, the mask of float32.

    A kernel that has keys and values in scalar registers takes them as float only.
    """
    mask = np.random.default_rng(1).standard_normal((1, 3, 1, 67), np.float32)
    case, _ = attention(kernel, (2, 3, 13, 67, 8, 8), target, mask=mask)
    narrow = halved(case, *("q" if kernel == "attention_lanes" else "qkv"))
    q, k, v = (narrow.feeds[n].astype(np.float64) for n in "qkv")
    expected = attention_reference(q, k, v, mask, 0.3)
    agree(run_case(narrow, pocl_device()), expected)


def rows(kernel: str, target: Target) -> list[tuple[Case, Array]]:
    """Calls that read and write one type, over rows and columns of awkward lengths."""
    rng = np.random.default_rng(5)
    pairs = []
    for shape, axis in (((5, 37), 1), ((3, 40, 21), 1), ((2, 1030), 1)):
        x = rng.standard_normal(shape).astype(np.float16)
        wide = x.astype(np.float64)
        if kernel == "softmax":
            powers = np.exp(wide - wide.max(axis, keepdims=True))
            made = call_case("softmax", {"x": x}, (DType.FLOAT16, shape), axis=axis, log=False)
            pairs.append((made, powers / powers.sum(axis, keepdims=True)))
        else:
            expected = wide.mean(axis, keepdims=True)
            out = (DType.FLOAT16, expected.shape)
            pairs.append((call_case("reduce", {"x": x}, out, kind="mean", axes=(axis,)), expected))
    return [(replace(case, target=target), expected) for case, expected in pairs]


def images(kernel: str, target: Target) -> list[tuple[Case, Array]]:
    """Blocked and row-major images of half precision: pools, sums, and copies of them."""
    block = target.channel_block
    x = np.random.default_rng(6).standard_normal((2, block + 3, 6, 9)).astype(np.float16)
    wide = x.astype(np.float64)
    window = {"kernel": (2, 3), "strides": (2, 3), "pads": (0,) * 4, "dilations": (1, 1)}
    tiles = wide.reshape(2, block + 3, 3, 2, 3, 3).transpose(0, 1, 2, 4, 3, 5)
    out = (DType.FLOAT16, (2, block + 3, 3, 3))
    pairs = []
    for b in (0, block):
        layouts: dict[str, Any] = {"blocks": (b,), "out_block": b}
        if kernel == "pool":
            for kind, expected in (("max", tiles.max((4, 5))), ("average", tiles.mean((4, 5)))):
                options = {**window, "kind": kind, "count_include_pad": False}
                pairs.append((call_case("pool", {"x": x}, out, **layouts, **options), expected))
        else:
            y = x[:, ::-1].astype(np.float32)
            expr = maximum(Arg(0) * 0.5 + Arg(1), -1.0)
            both: dict[str, Any] = {"blocks": (b, b), "out_block": b}
            for dtype in (DType.FLOAT16, DType.FLOAT32):
                made = call_case(
                    "elementwise", {"x": x, "y": y}, (dtype, x.shape), expr=expr, **both
                )
                pairs.append((made, np.maximum(wide * 0.5 + y, -1.0)))
    return [(replace(case, target=target), expected) for case, expected in pairs]


@pytest.mark.parametrize("target", [CPU16, GCN], ids=lambda t: t.family)
def test_other_calls(target: Target) -> None:
    pairs = [pair for kernel in ("softmax", "reduce") for pair in rows(kernel, target)]
    pairs += [pair for kernel in ("pool", "elementwise") for pair in images(kernel, target)]
    check_together(pairs)


@pytest.mark.parametrize("target", [CPU8, GCN], ids=lambda t: t.family)
def test_moves_keep_every_bit(target: Target) -> None:
    """Copies, gathers and reorders of all 65,536 halves, NaN of every kind among them."""
    x = np.arange(2**16, dtype=np.uint16).reshape(2, 8, 64, 64).view(np.float16)
    turned = call_case(
        "copy", {"x": x}, (DType.FLOAT16, (2, 8, 64, 64)), shape=(16, 64, 64), in_offset=0,
        in_strides=(4096, 1, 64), out_offset=0, out_strides=(4096, 64, 1),
    )  # fmt: skip
    which = np.array([3, -1, 0], np.int64)
    picked = call_case("gather", {"x": x, "i": which}, (DType.FLOAT16, (2, 3, 64, 64)), axis=1)
    blocked = call_case(
        "reorder", {"x": x}, (DType.FLOAT16, x.shape), out_block=target.channel_block
    )
    expected = (x.swapaxes(2, 3), x[:, which], x)
    for case, wanted in zip((turned, picked, blocked), expected, strict=True):
        found = run_case(replace(case, target=target), pocl_device())
        np.testing.assert_array_equal(found.view(np.uint16), wanted.view(np.uint16))
