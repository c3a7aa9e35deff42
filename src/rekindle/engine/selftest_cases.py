"""What the self-test runs: one-node graphs with awkward sizes, for each logical call.

They are operators, not calls, so that the operators' NumPy references say what is right. Sizes
are small primes and neighbours of the block sizes; a case that a kernel does not take is left out
for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rekindle._types import DType, Target
from rekindle.engine.selftest_nodes import (
    Case,
    Input,
    Link,
    case,
    chained,
    constant,
    draw,
    integers,
    odd,
    whole,
)
from rekindle.graph.decode import Decode
from rekindle.graph.expr import Arg, Expr, maximum, minimum, sigmoid
from rekindle.graph.ir import OWN_DOMAIN, Array, numpy_dtype


def cases(call: str, target: Target) -> tuple[Case, ...]:
    """The cases of a logical call, with images blocked as `target` has them."""
    return tuple(_CASES[call](target.channel_block)) if call in _CASES else ()


def _conv(block: int) -> list[Case]:
    def conv(name: str, x: Array, w: Array, *, rows: bool = False, **attrs: Any) -> Case:
        inside = Input(x, block=0 if rows else block)
        bias = draw(w.shape[0], seed=1)
        inputs = (inside, constant(w), constant(bias))
        return case(name, "Conv", inputs, out_block=block, **attrs)

    around: dict[str, Any] = {"pads": (1, 1, 1, 1)}
    wide: dict[str, Any] = {"pads": (2, 2, 2, 2)}
    fused = (Input(draw(1, 7, 7, 11), block=block), constant(draw(19, 7, 3, 3)), None)
    epilogue: Expr = maximum(Arg(0) + Arg(1), 0.0)
    residual = Input(draw(1, 19, 7, 11, seed=2), block=block)
    plain = [
        conv("1x1", draw(2, 13, 5, 7), draw(19, 13, 1, 1)),
        conv("1x1 by two and three", draw(2, 19, 9, 13), draw(77, 19, 1, 1), strides=(2, 3)),
        conv("long sums", draw(1, 260, 3, 5), draw(19, 260, 1, 1)),
        conv("3x3", draw(1, 33, 13, 17), draw(37, 33, 3, 3), **around),
        conv("3x3 by two", draw(1, 5, 13, 17), draw(33, 5, 3, 3), strides=(2, 2), **around),
        conv("dilated", draw(2, 16, 9, 11), draw(16, 16, 3, 3), dilations=(2, 2), **wide),
        conv("two groups", draw(1, 32, 7, 9), draw(32, 16, 3, 3), group=2, **around),
        conv("NaN and infinity", odd(1, 17, 6, 5), draw(16, 17, 1, 1)),
        conv("stem", draw(1, 3, 23, 31), draw(19, 3, 7, 7), rows=True, strides=(2, 2)),
        conv("depthwise", draw(1, 20, 13, 11), draw(20, 1, 3, 3), group=20, **around),
        conv(
            "depthwise by two", draw(2, 33, 12, 15), draw(33, 1, 5, 5), group=33, strides=(2, 2),
            **wide,
        ),
        case(
            "epilogue", "rekindle::Conv",
            (*fused, residual), out_block=block, epilogue=epilogue, **around,
        ),
    ]  # fmt: skip
    return [
        *plain,
        case("one axis", "Conv", (draw(2, 5, 37), draw(7, 5, 4)), strides=(3,)),
        case("three axes", "Conv", (draw(1, 3, 5, 6, 7), draw(5, 3, 2, 3, 2))),
        case("computed weights", "Conv", (draw(1, 6, 9, 8), draw(4, 3, 3, 3)), group=2),
        *_narrow_conv(block),
    ]


def _narrow_conv(block: int) -> list[Case]:
    """Values of half precision, weights in every type that has one."""

    def conv(name: str, x: Array, w: Array, *, rows: bool = False, **attrs: Any) -> Case:
        inside = Input(x.astype(np.float16), block=0 if rows else block)
        inputs = (inside, constant(w), constant(draw(w.shape[0], seed=1)))
        around = {"pads": tuple(k // 2 for k in w.shape[2:]) * 2, **attrs}
        return case(name, f"{OWN_DOMAIN}::Conv", inputs, out_block=block, **around)

    x, w = draw(1, 33, 7, 9), draw(37, 33, 1, 1)
    eight, scale = whole(37, 33, 1, 1), draw(37, 1, 1, 1) / np.float32(100)
    return [
        conv("half", x, w.astype(np.float16)),
        conv("half, many outputs", x, draw(260, 33, 1, 1).astype(np.float16)),
        conv("half, 3x3", x, draw(19, 33, 3, 3).astype(np.float16)),
        conv("half, stem", draw(1, 3, 11, 13), draw(19, 3, 3, 3), rows=True),
        conv("half, depthwise", draw(1, 19, 9, 7), draw(19, 1, 3, 3), group=19),
        conv("bfloat16 weights", x, w.astype(numpy_dtype(DType.BFLOAT16))),
        conv("8-bit weights", x, eight, decode=Decode(scale)),
        conv("8-bit weights in groups", x, eight, decode=Decode(draw(37, 3, 1, 1), 1, 16)),
    ]


def _chain(block: int) -> list[Case]:
    return [
        *_depthwise_pointwise(block),
        *_pointwise_depthwise(block),
        *_gated(block),
        *_squeeze_excite(block),
    ]


def _depthwise_pointwise(block: int) -> list[Case]:
    def pair(name: str, x: Array, m: int, window: int = 3, **attrs: Any) -> Case:
        """`w`: what the weights of the product are stored as; a residual where `added`."""
        c, stored, added = x.shape[1], attrs.pop("w", x.dtype), attrs.pop("added", False)
        around = {"pads": (window // 2,) * 4, "group": c, "epilogue": clip, **attrs}
        taps = draw(c, 1, window, window).astype(x.dtype)
        weights = draw(m, c, 1, 1).astype(stored)
        first = Link(own, (constant(taps), constant(draw(c, seed=1))), around)
        second = Link(own, (constant(weights), constant(draw(m, seed=2))), {})
        if added:
            residual = Input(draw(x.shape[0], m, *x.shape[2:]).astype(x.dtype), block=block)
            second = Link(own, (*second.others, residual), {"epilogue": Arg(0) + Arg(1)})
        return chained(name, Input(x, block=block), (first, second), block)

    own = f"{OWN_DOMAIN}::Conv"
    clip: Expr = minimum(maximum(Arg(0), 0.0), 6.0)
    half = np.float16
    return [
        pair("depthwise and pointwise", draw(2, 20, 9, 11), 24),
        pair("odd channels, by two", draw(1, 33, 13, 16), 19, strides=(2, 2)),
        pair("with a residual", draw(1, 19, 7, 12), 33, added=True),
        pair("many channels", draw(1, 132, 5, 3), 70),
        pair("5x5", draw(1, 16, 12, 7), 16, 5, strides=(2, 2)),
        pair("depthwise and pointwise, half", draw(1, 35, 9, 8).astype(half), 21, added=True),
        pair("bfloat16 weights", draw(1, 17, 6, 5), 16, w=numpy_dtype(DType.BFLOAT16)),
        pair("NaN and infinity between", odd(1, 17, 6, 5), 16),
    ]


def _pointwise_depthwise(block: int) -> list[Case]:
    """Images so large that it pays to keep what lies between in a processor's cache."""

    def pair(name: str, x: Array, m: int, **attrs: Any) -> Case:
        w, taps = draw(m, x.shape[1], 1, 1), draw(m, 1, 3, 3)
        clip: Expr = minimum(maximum(Arg(0), 0.0), 6.0)
        first = Link(own, (constant(w), constant(draw(m, seed=1))), {"epilogue": clip})
        around = {"pads": (1, 1, 1, 1), "group": m, **attrs}
        second = Link(own, (constant(taps), constant(draw(m, seed=2))), around)
        return chained(name, Input(x, block=block), (first, second), block)

    own = f"{OWN_DOMAIN}::Conv"
    return [
        pair("pointwise and depthwise", draw(1, 3, 57, 61), 40),
        pair("pointwise and depthwise, by two", draw(1, 5, 61, 59), 37, strides=(2, 2)),
    ]


def _gated(block: int) -> list[Case]:
    x, w = draw(2, 19, 7, 9), draw(33, 19, 1, 1)
    gate = Link("Mul", (Input(draw(2, 19, 1, 1), block=block),))
    product = Link(f"{OWN_DOMAIN}::Conv", (constant(w), constant(draw(33, seed=1))))
    return [chained("gate and pointwise", Input(x, block=block), (gate, product), block)]


def _squeeze_excite(block: int) -> list[Case]:
    def excite(name: str, x: Array, hidden: int, kind: Any = np.float32) -> Case:
        """The mean is made where there are pixels; `kind`: what the weights are stored as."""
        c = x.shape[1]
        first = draw(hidden, c, 1, 1, seed=1).astype(kind), draw(hidden, seed=2)
        second = draw(c, hidden, 1, 1, seed=3).astype(kind), draw(c, seed=4)
        swish: Expr = Arg(0) * sigmoid(Arg(0))
        links = [
            Link(own, tuple(map(constant, first)), {"epilogue": swish}),
            Link(own, tuple(map(constant, second)), {"epilogue": sigmoid(Arg(0))}),
        ]
        if x[0, 0].size > 1:
            links.insert(0, Link("GlobalAveragePool"))
        return chained(name, Input(x, block=block), links, block)

    own = f"{OWN_DOMAIN}::Conv"
    half = np.float16
    return [
        excite("squeeze and excite", draw(2, 19, 7, 9), 6),
        excite("squeeze and excite, many channels", draw(1, 390, 3, 3), 17),
        excite("excite", draw(3, 33, 1, 1), 70),
        excite("squeeze and excite, half", draw(1, 24, 5, 7).astype(half), 9, half),
        excite("squeeze and excite of NaN", odd(1, 9, 6, 5), 4),
    ]


def _matmul(_: int) -> list[Case]:
    def product(name: str, a: Array, b: Array) -> list[Case]:
        return [
            case(f"{name}, computed", "MatMul", (a, b)),
            case(f"{name}, constant", "MatMul", (a, constant(b))),
        ]

    own = f"{OWN_DOMAIN}::MatMul"
    epilogue: Expr = maximum(Arg(0) + Arg(1), 0.0)
    return [
        *product("127x13x17", draw(127, 13), draw(13, 17)),
        *product("one row", draw(1, 300), draw(300, 130)),
        *product("65x64x129", draw(65, 64), draw(64, 129)),
        *product("batches", draw(2, 1, 5, 7), draw(3, 7, 9)),
        *product("long sums", draw(13, 514), draw(514, 6)),
        case("NaN and infinity", "MatMul", (odd(33, 5), draw(5, 19))),
        case("both transposed", own, (draw(13, 29), draw(37, 13)), transpose_a=1, transpose_b=1),
        case("transposed row", own, (draw(3, 17), constant(draw(127, 17))), transpose_b=1),
        case("epilogue", own, (draw(2, 5, 7), draw(7, 20), draw(20)), epilogue=epilogue),
        *_narrow_matmul(own),
    ]


def _narrow_matmul(own: str) -> list[Case]:
    a, b = draw(3, 70).astype(np.float16), draw(70, 37)
    groups, four = Decode(draw(5, 37), 0, 16), whole(70, 37, most=7)
    return [
        case("half", own, (a, constant(b.astype(np.float16)))),
        case("half, computed", own, (draw(33, 17).astype(np.float16), b[:17].astype(np.float16))),
        case("bfloat16 weights", own, (a, constant(b.astype(numpy_dtype(DType.BFLOAT16))))),
        case("8-bit weights", own, (a, constant(whole(70, 37))), decode=Decode(draw(1, 37))),
        case("4-bit weights in groups", own, (a, constant(four)), decode=groups),
    ]


def _pool(block: int) -> list[Case]:
    window = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
    found = []
    for b in (0, block):
        where = "blocked" if b else "row-major"
        x, strange = Input(draw(2, 19, 11, 14), block=b), Input(odd(1, 5, 9, 9), block=b)
        found += [
            case(f"largest, {where}", "MaxPool", (x,), out_block=b, **window),
            case(f"average, {where}", "AveragePool", (x,), out_block=b, **window),
            case(
                f"average with padding, {where}", "AveragePool", (x,), out_block=b, ceil_mode=1,
                count_include_pad=1, **window,
            ),
            case(f"largest of NaN, {where}", "MaxPool", (strange,), out_block=b, **window),
        ]  # fmt: skip
    half = Input(draw(1, 19, 9, 7).astype(np.float16), block=block)
    found.append(case("half", "MaxPool", (half,), out_block=block, **window))
    line = case("one axis", "MaxPool", (draw(2, 3, 29),), kernel_shape=(4,), dilations=(3,))
    return [*found, line]


def _reduce(block: int) -> list[Case]:
    return [
        case("inner axis", "ReduceMean", (draw(3, 5, 127),), axes=(2,)),
        case("half", "ReduceMean", (draw(3, 5, 127).astype(np.float16),), axes=(2,)),
        case("outer axes", "ReduceMax", (draw(7, 13, 33),), axes=(0, 1), keepdims=0),
        case("middle axis", "ReduceMin", (draw(3, 131, 18),), axes=(1,)),
        case("one long sum", "ReduceSumSquare", (draw(100_003),), axes=(0,)),
        case("product", "ReduceProd", (draw(5, 4, 3),), axes=(1,)),
        case("integers", "ReduceMax", (integers(9, 31),), axes=(1,)),
        case("NaN and infinity", "ReduceMax", (odd(3, 65),), axes=(1,)),
        case("spatial", "GlobalAveragePool", (Input(draw(2, 19, 7, 9), block=block),)),
        case("spatial, blocked", "GlobalMaxPool", (Input(draw(2, 19, 7, 9), block=block),),
              out_block=block),
    ]  # fmt: skip


def _arg_reduce(_: int) -> list[Case]:
    ties = integers(5, 127, 3).astype(np.float32)
    return [
        case("largest, inner", "ArgMax", (draw(7, 1000),), axis=1),
        case("smallest, middle", "ArgMin", (ties,), axis=1, keepdims=0),
        case("last of equals", "ArgMax", (ties,), axis=1, select_last_index=1),
    ]


def _normalize(block: int) -> list[Case]:
    x, scale, bias = draw(3, 5, 67), draw(67, seed=1), draw(67, seed=2)
    of_channel = [draw(5, seed=i) for i in (3, 4)]
    return [
        case("layer", "LayerNormalization", [x, scale, bias]),
        case("one wave", "LayerNormalization", [x[..., :7].copy(), scale[:7], bias[:7]]),
        case("instance", "InstanceNormalization", [x, *of_channel]),
    ]


def _attention(block: int) -> list[Case]:
    q, k, v = draw(2, 7, 3, 24), draw(2, 3, 67, 24, seed=1), draw(2, 67, 3, 16, seed=2)
    turned, plain = (0, 2, 1, 3), (0, 1, 2, 3)
    axes: dict[str, Any] = {"q_axes": turned, "k_axes": plain, "v_axes": turned, "y_axes": turned}
    long = draw(1, 7, 3, 24), draw(1, 3, 263, 24, seed=1), draw(1, 263, 3, 16, seed=2)
    mask = np.where(draw(2, 1, 7, 67, seed=3) > 0, 0, -np.inf).astype(np.float32)
    own = "rekindle::Attention"
    return [
        case("plain", own, [q, k, v], scale=0.2, **axes),
        case("masked", own, [q, k, v, mask], scale=0.2, **axes),
        case("long", own, long, scale=0.1, **axes),
        case("odd rows", own, [q[..., :21], k[..., :21], v[..., :13]], scale=0.2, **axes),
    ]


def _softmax(_: int) -> list[Case]:
    far = draw(4, 33) * np.float32(60)
    far[0, 3] = -np.inf
    return [
        case("inner axis", "Softmax", (draw(5, 1013),), axis=1),
        case("outer axis", "Softmax", (draw(17, 3, 5),), axis=0),
        case("logarithm", "LogSoftmax", (draw(2, 3, 127),), axis=-1),
        case("half", "Softmax", (draw(5, 77).astype(np.float16),), axis=1),
        case("large numbers", "Softmax", (far,), axis=1),
    ]


def _copy(_: int) -> list[Case]:
    def indices(*numbers: int) -> Input:
        return constant(np.array(numbers, np.int64))

    return [
        case("transpose", "Transpose", (draw(5, 33, 17),), perm=(2, 0, 1)),
        case("transpose bytes", "Transpose", (integers(33, 65, dtype=np.uint8),), perm=(1, 0)),
        case(
            "backward slice", "Slice",
            (draw(7, 29), indices(-1, 27), indices(-9, 2), indices(0, 1), indices(-2, -3)),
        ),
        case("concat", "Concat", (draw(3, 5, 7), draw(3, 1, 7), draw(3, 13, 7)), axis=1),
        case("concat int64", "Concat", (integers(5, dtype=np.int64),) * 2, axis=0),
        case("expand", "Expand", (draw(3, 1, 5), indices(2, 3, 7, 5))),
        *_fill(0),
    ]  # fmt: skip


def _fill(_: int) -> list[Case]:
    edges = constant(np.array([1, 0, 2, 3, 1, 0], np.int64))
    value = constant(np.array(-1.5, np.float32))
    return [case("pad", "Pad", (draw(3, 5, 7), edges, value), mode="constant")]


def _gather(_: int) -> list[Case]:
    wanted = np.array([[0, -1, 4], [2, 2, -5]], np.int64)
    return [
        case("inner axis", "Gather", (draw(7, 5), constant(wanted)), axis=1),
        case("middle axis", "Gather", (draw(3, 5, 17), wanted), axis=1),
        case("bytes", "Gather", (integers(5, 33, dtype=np.uint8), wanted.astype(np.int32)), axis=0),
    ]


def _indices(size: int, *shape: int, dtype: Any = np.int64) -> Array:
    """Places from both ends of an axis of `size`."""
    return np.random.default_rng(shape).integers(-size, size, shape).astype(dtype)


def _gather_elements(_: int) -> list[Case]:
    x = draw(5, 13, 7)
    return [
        case("outer axis", "GatherElements", (x, _indices(5, 3, 13, 7)), axis=0),
        case("inner axis", "GatherElements", (x, _indices(7, 5, 4, 33, dtype=np.int32)), axis=2),
    ]


def _gather_nd(_: int) -> list[Case]:
    x = draw(3, 4, 5)
    return [
        case("slices", "GatherND", (x, _indices(3, 13, 2))),
        case("batches", "GatherND", (x, _indices(4, 3, 7, 1)), batch_dims=1),
    ]


def _scatter_elements(_: int) -> list[Case]:
    places, updates = _indices(5, 3, 13, 4), draw(3, 13, 4, seed=1)
    inputs = (draw(3, 5, 4), places, updates)
    return [
        case("written", "ScatterElements", inputs, axis=1),
        case("added", "ScatterElements", inputs, axis=1, reduction="add"),
    ]


def _scatter_nd(_: int) -> list[Case]:
    inputs = (draw(5, 7), _indices(5, 13, 1), draw(13, 7, seed=1))
    return [
        case("written", "ScatterND", inputs),
        case("multiplied", "ScatterND", inputs, reduction="mul"),
    ]


def _top_k(_: int) -> list[Case]:
    k = constant(np.array([5], np.int64))
    return [
        case("largest", "TopK", (draw(3, 127), k), axis=1),
        case("smallest, middle axis", "TopK", (draw(3, 29, 4), k), axis=1, largest=0),
    ]


def _cumulate(_: int) -> list[Case]:
    axis = constant(np.array(1, np.int64))
    return [
        case("sums", "CumSum", (draw(3, 33, 5), axis)),
        case("whole, from the end", "CumSum", (integers(3, 13), axis), reverse=1, exclusive=1),
    ]


def _bytes(*shape: int, dtype: Any = np.uint8) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(shape).integers(info.min, info.max, shape).astype(dtype)


def _matmul_integer(_: int) -> list[Case]:
    a, b = _bytes(13, 127), _bytes(127, 33, dtype=np.int8)
    zero = np.array(113, np.uint8)
    return [
        case("one zero point", "MatMulInteger", (a, b, zero)),
        case("batches", "MatMulInteger", (_bytes(2, 5, 19), _bytes(2, 19, 16))),
    ]


def _conv_integer(_: int) -> list[Case]:
    x, w = _bytes(1, 6, 13, 17), _bytes(4, 3, 3, 3, dtype=np.int8)
    zero = np.array(113, np.uint8)
    around: dict[str, Any] = {"pads": (1, 1, 1, 1)}
    return [
        case("two groups", "ConvInteger", (x, w, zero), group=2, **around),
        case("by two", "ConvInteger", (x, w, zero), group=2, strides=(2, 2), **around),
    ]


def _reorder(block: int) -> list[Case]:
    found = []
    for channels in (13, 2 * block):
        x = draw(2, channels, 5, 9)
        own = f"{OWN_DOMAIN}::Reorder"
        found += [
            case(f"{channels} channels into blocks", own, (x,), out_block=block),
            case(f"{channels} channels into rows", own, (Input(x, block=block),)),
        ]
    return found


def _elementwise(block: int) -> list[Case]:
    one_axis = [
        case(op, op, (draw(1, 1031) * np.float32(3),))
        for op in ("Relu", "Exp", "Sigmoid", "Tanh", "Erf", "Floor", "HardSwish", "Softplus")
    ]
    strange = [case(f"{op} of NaN", op, (odd(37),)) for op in ("Relu", "Neg", "Abs", "Sigmoid")]
    blocked = (
        Input(draw(2, 19, 5, 7), block=block),
        Input(draw(2, 19, 5, 7, seed=1), block=block),
    )
    return [
        *one_axis,
        *strange,
        case("broadcast", "Mul", (draw(3, 1, 17), draw(5, 1))),
        case("quotient", "Div", (draw(129), np.abs(draw(129, seed=1)) + np.float32(0.5))),
        case("integers", "Add", (integers(5, 13), integers(13))),
        case("int64", "Mul", (integers(65, dtype=np.int64), integers(65, dtype=np.int64))),
        case("choice", "Where", (integers(9, 7) > 50, draw(9, 7), draw(1, 7))),
        case("cast", "Cast", (draw(67) * np.float32(50),), to=6),
        case("blocked", "Add", blocked, out_block=block),
        case("half", "Mul", (draw(5, 129).astype(np.float16), draw(129).astype(np.float16))),
    ]


_CASES: dict[str, Callable[[int], list[Case]]] = {
    "conv": _conv,
    "chain": _chain,
    "matmul": _matmul,
    "pool": _pool,
    "reduce": _reduce,
    "arg_reduce": _arg_reduce,
    "softmax": _softmax,
    "attention": _attention,
    "normalize": _normalize,
    "copy": _copy,
    "fill": _fill,
    "gather": _gather,
    "gather_elements": _gather_elements,
    "gather_nd": _gather_nd,
    "scatter_elements": _scatter_elements,
    "scatter_nd": _scatter_nd,
    "top_k": _top_k,
    "cumulate": _cumulate,
    "matmul_integer": _matmul_integer,
    "conv_integer": _conv_integer,
    "reorder": _reorder,
    "elementwise": _elementwise,
}
