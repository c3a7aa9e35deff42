"""What the self-test runs: one-node graphs with awkward sizes, for each logical call.

They are operators, not calls, so that the operators' NumPy references say what is right. Sizes
are small primes and neighbours of the block sizes; a case that a kernel does not take is left out
for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rekindle._types import DType, Layout, Target
from rekindle.graph import ops
from rekindle.graph.decode import Decode
from rekindle.graph.expr import Arg, Expr, maximum
from rekindle.graph.infer import operands_of
from rekindle.graph.ir import OWN_DOMAIN, Array, Graph, Node, Value, dtype_of, numpy_dtype

_OPSET = 17


@dataclass(frozen=True)
class Case:
    """A graph of one node, and what to feed it (row-major)."""

    name: str
    graph: Graph
    feeds: Mapping[str, Array]


@dataclass(frozen=True)
class _Input:
    array: Array
    constant: bool = False
    block: int = 0


def cases(call: str, target: Target) -> tuple[Case, ...]:
    """The cases of a logical call, with images blocked as `target` has them."""
    return tuple(_CASES[call](target.channel_block)) if call in _CASES else ()


def _case(
    name: str, op: str, inputs: Sequence[_Input | Array | None], /, out_block: int = 0, **attrs: Any
) -> Case:
    """`op` may be `rekindle::Type`; bare arrays are computed, row-major inputs."""
    domain, _, op_type = op.rpartition("::")
    given = [_Input(i) if isinstance(i, np.ndarray) else i for i in inputs]
    names = [f"x{i}" if item else "" for i, item in enumerate(given)]
    kept = {n: item for n, item in zip(names, given, strict=True) if item}
    node = Node(op_type, tuple(names), ("y",), attrs, domain, name)
    values = {
        n: Value(n, dtype_of(item.array), item.array.shape, Layout(item.block))
        for n, item in kept.items()
    }
    constants = {n: item.array for n, item in kept.items() if item.constant}
    feeds = {n: item.array for n, item in kept.items() if not item.constant}
    opsets = {"": _OPSET, OWN_DOMAIN: 1}
    graph = Graph(name, tuple(feeds), ("y",), [node], values, constants, opsets)
    operator = ops.find(node.qualified, graph.opset(domain))
    assert operator is not None, op
    (made,) = ops.infer(operator, node, operands_of(graph, node))
    graph.values["y"] = Value("y", made.dtype, made.shape, Layout(out_block))
    return Case(name, graph, feeds)


def _draw(*shape: int, seed: int = 0) -> Array:
    rng = np.random.default_rng((seed, *shape))
    return rng.standard_normal(shape).astype(np.float32)


def _integers(*shape: int, dtype: Any = np.int32) -> Array:
    return np.random.default_rng(shape).integers(0, 100, shape).astype(dtype)


def _odd(*shape: int) -> Array:
    """Ordinary numbers with NaN and both infinities among them."""
    array = _draw(*shape)
    array.reshape(-1)[[0, array.size // 2, array.size - 1]] = np.nan, np.inf, -np.inf
    return array


def _constant(array: Array) -> _Input:
    return _Input(array, constant=True)


def _conv(block: int) -> list[Case]:
    def conv(name: str, x: Array, w: Array, *, rows: bool = False, **attrs: Any) -> Case:
        inside = _Input(x, block=0 if rows else block)
        bias = _draw(w.shape[0], seed=1)
        inputs = (inside, _constant(w), _constant(bias))
        return _case(name, "Conv", inputs, out_block=block, **attrs)

    around: dict[str, Any] = {"pads": (1, 1, 1, 1)}
    wide: dict[str, Any] = {"pads": (2, 2, 2, 2)}
    fused = (_Input(_draw(1, 7, 7, 11), block=block), _constant(_draw(19, 7, 3, 3)), None)
    epilogue: Expr = maximum(Arg(0) + Arg(1), 0.0)
    residual = _Input(_draw(1, 19, 7, 11, seed=2), block=block)
    plain = [
        conv("1x1", _draw(2, 13, 5, 7), _draw(19, 13, 1, 1)),
        conv("1x1 by two and three", _draw(2, 19, 9, 13), _draw(77, 19, 1, 1), strides=(2, 3)),
        conv("long sums", _draw(1, 260, 3, 5), _draw(19, 260, 1, 1)),
        conv("3x3", _draw(1, 33, 13, 17), _draw(37, 33, 3, 3), **around),
        conv("3x3 by two", _draw(1, 5, 13, 17), _draw(33, 5, 3, 3), strides=(2, 2), **around),
        conv("dilated", _draw(2, 16, 9, 11), _draw(16, 16, 3, 3), dilations=(2, 2), **wide),
        conv("two groups", _draw(1, 32, 7, 9), _draw(32, 16, 3, 3), group=2, **around),
        conv("NaN and infinity", _odd(1, 17, 6, 5), _draw(16, 17, 1, 1)),
        conv("stem", _draw(1, 3, 23, 31), _draw(19, 3, 7, 7), rows=True, strides=(2, 2)),
        conv("depthwise", _draw(1, 20, 13, 11), _draw(20, 1, 3, 3), group=20, **around),
        conv(
            "depthwise by two", _draw(2, 33, 12, 15), _draw(33, 1, 5, 5), group=33, strides=(2, 2),
            **wide,
        ),
        _case(
            "epilogue", "rekindle::Conv",
            (*fused, residual), out_block=block, epilogue=epilogue, **around,
        ),
    ]  # fmt: skip
    return [
        *plain,
        _case("one axis", "Conv", (_draw(2, 5, 37), _draw(7, 5, 4)), strides=(3,)),
        _case("three axes", "Conv", (_draw(1, 3, 5, 6, 7), _draw(5, 3, 2, 3, 2))),
        _case("computed weights", "Conv", (_draw(1, 6, 9, 8), _draw(4, 3, 3, 3)), group=2),
        *_narrow_conv(block),
    ]


def _narrow_conv(block: int) -> list[Case]:
    """Values of half precision, weights in every type that has one."""

    def conv(name: str, x: Array, w: Array, *, rows: bool = False, **attrs: Any) -> Case:
        inside = _Input(x.astype(np.float16), block=0 if rows else block)
        inputs = (inside, _constant(w), _constant(_draw(w.shape[0], seed=1)))
        around = {"pads": tuple(k // 2 for k in w.shape[2:]) * 2, **attrs}
        return _case(name, f"{OWN_DOMAIN}::Conv", inputs, out_block=block, **around)

    x, w = _draw(1, 33, 7, 9), _draw(37, 33, 1, 1)
    eight, scale = _whole(37, 33, 1, 1), _draw(37, 1, 1, 1) / np.float32(100)
    return [
        conv("half", x, w.astype(np.float16)),
        conv("half, many outputs", x, _draw(260, 33, 1, 1).astype(np.float16)),
        conv("half, 3x3", x, _draw(19, 33, 3, 3).astype(np.float16)),
        conv("half, stem", _draw(1, 3, 11, 13), _draw(19, 3, 3, 3), rows=True),
        conv("half, depthwise", _draw(1, 19, 9, 7), _draw(19, 1, 3, 3), group=19),
        conv("bfloat16 weights", x, w.astype(numpy_dtype(DType.BFLOAT16))),
        conv("8-bit weights", x, eight, decode=Decode(scale)),
        conv("8-bit weights in groups", x, eight, decode=Decode(_draw(37, 3, 1, 1), 1, 16)),
    ]


def _whole(*shape: int, most: int = 127) -> Array:
    return np.random.default_rng(shape).integers(-most, most + 1, shape).astype(np.int8)


def _matmul(_: int) -> list[Case]:
    def product(name: str, a: Array, b: Array) -> list[Case]:
        return [
            _case(f"{name}, computed", "MatMul", (a, b)),
            _case(f"{name}, constant", "MatMul", (a, _constant(b))),
        ]

    own = f"{OWN_DOMAIN}::MatMul"
    epilogue: Expr = maximum(Arg(0) + Arg(1), 0.0)
    return [
        *product("127x13x17", _draw(127, 13), _draw(13, 17)),
        *product("one row", _draw(1, 300), _draw(300, 130)),
        *product("65x64x129", _draw(65, 64), _draw(64, 129)),
        *product("batches", _draw(2, 1, 5, 7), _draw(3, 7, 9)),
        *product("long sums", _draw(13, 514), _draw(514, 6)),
        _case("NaN and infinity", "MatMul", (_odd(33, 5), _draw(5, 19))),
        _case("both transposed", own, (_draw(13, 29), _draw(37, 13)), transpose_a=1, transpose_b=1),
        _case("transposed row", own, (_draw(3, 17), _constant(_draw(127, 17))), transpose_b=1),
        _case("epilogue", own, (_draw(2, 5, 7), _draw(7, 20), _draw(20)), epilogue=epilogue),
        *_narrow_matmul(own),
    ]


def _narrow_matmul(own: str) -> list[Case]:
    a, b = _draw(3, 70).astype(np.float16), _draw(70, 37)
    groups, four = Decode(_draw(5, 37), 0, 16), _whole(70, 37, most=7)
    return [
        _case("half", own, (a, _constant(b.astype(np.float16)))),
        _case("half, computed", own, (_draw(33, 17).astype(np.float16), b[:17].astype(np.float16))),
        _case("bfloat16 weights", own, (a, _constant(b.astype(numpy_dtype(DType.BFLOAT16))))),
        _case("8-bit weights", own, (a, _constant(_whole(70, 37))), decode=Decode(_draw(1, 37))),
        _case("4-bit weights in groups", own, (a, _constant(four)), decode=groups),
    ]


def _pool(block: int) -> list[Case]:
    window = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
    found = []
    for b in (0, block):
        where = "blocked" if b else "row-major"
        x, odd = _Input(_draw(2, 19, 11, 14), block=b), _Input(_odd(1, 5, 9, 9), block=b)
        found += [
            _case(f"largest, {where}", "MaxPool", (x,), out_block=b, **window),
            _case(f"average, {where}", "AveragePool", (x,), out_block=b, **window),
            _case(
                f"average with padding, {where}", "AveragePool", (x,), out_block=b, ceil_mode=1,
                count_include_pad=1, **window,
            ),
            _case(f"largest of NaN, {where}", "MaxPool", (odd,), out_block=b, **window),
        ]  # fmt: skip
    half = _Input(_draw(1, 19, 9, 7).astype(np.float16), block=block)
    found.append(_case("half", "MaxPool", (half,), out_block=block, **window))
    line = _case("one axis", "MaxPool", (_draw(2, 3, 29),), kernel_shape=(4,), dilations=(3,))
    return [*found, line]


def _reduce(block: int) -> list[Case]:
    return [
        _case("inner axis", "ReduceMean", (_draw(3, 5, 127),), axes=(2,)),
        _case("half", "ReduceMean", (_draw(3, 5, 127).astype(np.float16),), axes=(2,)),
        _case("outer axes", "ReduceMax", (_draw(7, 13, 33),), axes=(0, 1), keepdims=0),
        _case("middle axis", "ReduceMin", (_draw(3, 131, 18),), axes=(1,)),
        _case("one long sum", "ReduceSumSquare", (_draw(100_003),), axes=(0,)),
        _case("product", "ReduceProd", (_draw(5, 4, 3),), axes=(1,)),
        _case("integers", "ReduceMax", (_integers(9, 31),), axes=(1,)),
        _case("NaN and infinity", "ReduceMax", (_odd(3, 65),), axes=(1,)),
        _case("spatial", "GlobalAveragePool", (_Input(_draw(2, 19, 7, 9), block=block),)),
        _case("spatial, blocked", "GlobalMaxPool", (_Input(_draw(2, 19, 7, 9), block=block),),
              out_block=block),
    ]  # fmt: skip


def _arg_reduce(_: int) -> list[Case]:
    ties = _integers(5, 127, 3).astype(np.float32)
    return [
        _case("largest, inner", "ArgMax", (_draw(7, 1000),), axis=1),
        _case("smallest, middle", "ArgMin", (ties,), axis=1, keepdims=0),
        _case("last of equals", "ArgMax", (ties,), axis=1, select_last_index=1),
    ]


def _normalize(block: int) -> list[Case]:
    x, scale, bias = _draw(3, 5, 67), _draw(67, seed=1), _draw(67, seed=2)
    of_channel = [_draw(5, seed=i) for i in (3, 4)]
    return [
        _case("layer", "LayerNormalization", [x, scale, bias]),
        _case("one wave", "LayerNormalization", [x[..., :7].copy(), scale[:7], bias[:7]]),
        _case("instance", "InstanceNormalization", [x, *of_channel]),
    ]


def _attention(block: int) -> list[Case]:
    q, k, v = _draw(2, 7, 3, 24), _draw(2, 3, 67, 24, seed=1), _draw(2, 67, 3, 16, seed=2)
    turned, plain = (0, 2, 1, 3), (0, 1, 2, 3)
    axes: dict[str, Any] = {"q_axes": turned, "k_axes": plain, "v_axes": turned, "y_axes": turned}
    long = _draw(1, 7, 3, 24), _draw(1, 3, 263, 24, seed=1), _draw(1, 263, 3, 16, seed=2)
    mask = np.where(_draw(2, 1, 7, 67, seed=3) > 0, 0, -np.inf).astype(np.float32)
    own = "rekindle::Attention"
    return [
        _case("plain", own, [q, k, v], scale=0.2, **axes),
        _case("masked", own, [q, k, v, mask], scale=0.2, **axes),
        _case("long", own, long, scale=0.1, **axes),
        _case("odd rows", own, [q[..., :21], k[..., :21], v[..., :13]], scale=0.2, **axes),
    ]


def _softmax(_: int) -> list[Case]:
    far = _draw(4, 33) * np.float32(60)
    far[0, 3] = -np.inf
    return [
        _case("inner axis", "Softmax", (_draw(5, 1013),), axis=1),
        _case("outer axis", "Softmax", (_draw(17, 3, 5),), axis=0),
        _case("logarithm", "LogSoftmax", (_draw(2, 3, 127),), axis=-1),
        _case("half", "Softmax", (_draw(5, 77).astype(np.float16),), axis=1),
        _case("large numbers", "Softmax", (far,), axis=1),
    ]


def _copy(_: int) -> list[Case]:
    def indices(*numbers: int) -> _Input:
        return _constant(np.array(numbers, np.int64))

    return [
        _case("transpose", "Transpose", (_draw(5, 33, 17),), perm=(2, 0, 1)),
        _case("transpose bytes", "Transpose", (_integers(33, 65, dtype=np.uint8),), perm=(1, 0)),
        _case(
            "backward slice", "Slice",
            (_draw(7, 29), indices(-1, 27), indices(-9, 2), indices(0, 1), indices(-2, -3)),
        ),
        _case("concat", "Concat", (_draw(3, 5, 7), _draw(3, 1, 7), _draw(3, 13, 7)), axis=1),
        _case("concat int64", "Concat", (_integers(5, dtype=np.int64),) * 2, axis=0),
        _case("expand", "Expand", (_draw(3, 1, 5), indices(2, 3, 7, 5))),
        *_fill(0),
    ]  # fmt: skip


def _fill(_: int) -> list[Case]:
    edges = _constant(np.array([1, 0, 2, 3, 1, 0], np.int64))
    value = _constant(np.array(-1.5, np.float32))
    return [_case("pad", "Pad", (_draw(3, 5, 7), edges, value), mode="constant")]


def _gather(_: int) -> list[Case]:
    wanted = np.array([[0, -1, 4], [2, 2, -5]], np.int64)
    return [
        _case("inner axis", "Gather", (_draw(7, 5), _constant(wanted)), axis=1),
        _case("middle axis", "Gather", (_draw(3, 5, 17), wanted), axis=1),
        _case(
            "bytes", "Gather", (_integers(5, 33, dtype=np.uint8), wanted.astype(np.int32)), axis=0
        ),
    ]


def _indices(size: int, *shape: int, dtype: Any = np.int64) -> Array:
    """Places from both ends of an axis of `size`."""
    return np.random.default_rng(shape).integers(-size, size, shape).astype(dtype)


def _gather_elements(_: int) -> list[Case]:
    x = _draw(5, 13, 7)
    return [
        _case("outer axis", "GatherElements", (x, _indices(5, 3, 13, 7)), axis=0),
        _case("inner axis", "GatherElements", (x, _indices(7, 5, 4, 33, dtype=np.int32)), axis=2),
    ]


def _gather_nd(_: int) -> list[Case]:
    x = _draw(3, 4, 5)
    return [
        _case("slices", "GatherND", (x, _indices(3, 13, 2))),
        _case("batches", "GatherND", (x, _indices(4, 3, 7, 1)), batch_dims=1),
    ]


def _scatter_elements(_: int) -> list[Case]:
    places, updates = _indices(5, 3, 13, 4), _draw(3, 13, 4, seed=1)
    inputs = (_draw(3, 5, 4), places, updates)
    return [
        _case("written", "ScatterElements", inputs, axis=1),
        _case("added", "ScatterElements", inputs, axis=1, reduction="add"),
    ]


def _scatter_nd(_: int) -> list[Case]:
    inputs = (_draw(5, 7), _indices(5, 13, 1), _draw(13, 7, seed=1))
    return [
        _case("written", "ScatterND", inputs),
        _case("multiplied", "ScatterND", inputs, reduction="mul"),
    ]


def _top_k(_: int) -> list[Case]:
    k = _constant(np.array([5], np.int64))
    return [
        _case("largest", "TopK", (_draw(3, 127), k), axis=1),
        _case("smallest, middle axis", "TopK", (_draw(3, 29, 4), k), axis=1, largest=0),
    ]


def _cumulate(_: int) -> list[Case]:
    axis = _constant(np.array(1, np.int64))
    return [
        _case("sums", "CumSum", (_draw(3, 33, 5), axis)),
        _case("whole, from the end", "CumSum", (_integers(3, 13), axis), reverse=1, exclusive=1),
    ]


def _bytes(*shape: int, dtype: Any = np.uint8) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(shape).integers(info.min, info.max, shape).astype(dtype)


def _matmul_integer(_: int) -> list[Case]:
    a, b = _bytes(13, 127), _bytes(127, 33, dtype=np.int8)
    zero = np.array(113, np.uint8)
    return [
        _case("one zero point", "MatMulInteger", (a, b, zero)),
        _case("batches", "MatMulInteger", (_bytes(2, 5, 19), _bytes(2, 19, 16))),
    ]


def _conv_integer(_: int) -> list[Case]:
    x, w = _bytes(1, 6, 13, 17), _bytes(4, 3, 3, 3, dtype=np.int8)
    zero = np.array(113, np.uint8)
    around: dict[str, Any] = {"pads": (1, 1, 1, 1)}
    return [
        _case("two groups", "ConvInteger", (x, w, zero), group=2, **around),
        _case("by two", "ConvInteger", (x, w, zero), group=2, strides=(2, 2), **around),
    ]


def _reorder(block: int) -> list[Case]:
    found = []
    for channels in (13, 2 * block):
        x = _draw(2, channels, 5, 9)
        own = f"{OWN_DOMAIN}::Reorder"
        found += [
            _case(f"{channels} channels into blocks", own, (x,), out_block=block),
            _case(f"{channels} channels into rows", own, (_Input(x, block=block),)),
        ]
    return found


def _elementwise(block: int) -> list[Case]:
    one_axis = [
        _case(op, op, (_draw(1, 1031) * np.float32(3),))
        for op in ("Relu", "Exp", "Sigmoid", "Tanh", "Erf", "Floor", "HardSwish", "Softplus")
    ]
    odd = [_case(f"{op} of NaN", op, (_odd(37),)) for op in ("Relu", "Neg", "Abs", "Sigmoid")]
    blocked = (
        _Input(_draw(2, 19, 5, 7), block=block),
        _Input(_draw(2, 19, 5, 7, seed=1), block=block),
    )
    return [
        *one_axis,
        *odd,
        _case("broadcast", "Mul", (_draw(3, 1, 17), _draw(5, 1))),
        _case("quotient", "Div", (_draw(129), np.abs(_draw(129, seed=1)) + np.float32(0.5))),
        _case("integers", "Add", (_integers(5, 13), _integers(13))),
        _case("int64", "Mul", (_integers(65, dtype=np.int64), _integers(65, dtype=np.int64))),
        _case("choice", "Where", (_integers(9, 7) > 50, _draw(9, 7), _draw(1, 7))),
        _case("cast", "Cast", (_draw(67) * np.float32(50),), to=6),
        _case("blocked", "Add", blocked, out_block=block),
        _case("half", "Mul", (_draw(5, 129).astype(np.float16), _draw(129).astype(np.float16))),
    ]


_CASES: dict[str, Callable[[int], list[Case]]] = {
    "conv": _conv,
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
