"""`elementwise` for every dtype: an expression of broadcast inputs.

Three forms, by what the memory looks like once dimensions are merged (`_nest`):

* vectors along one contiguous run, with a scalar tail: all inputs of the output's shape, or single;
* vectors along the innermost loop: rows of a multiple of the vector's width, and blocked layouts,
  where the vector is one block of channels and an operand may be one per channel in either layout;
* scalars, which LLVM vectorises on CPUs: other dtypes, rows of other lengths, other strides.

In a blocked output the channels past C are written as zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rekindle._errors import UnsupportedOperatorError
from rekindle._types import DType
from rekindle.engine.kernels import DECODES, Context, Isa, Kernel, Launch, register
from rekindle.engine.kernels._nest import Nest, index_code, parameters, row_major_strides, share
from rekindle.engine.kernels._render import (
    SINGLE,
    compute_type,
    render,
    result_dtype,
    storage_type,
    vectorizable,
)
from rekindle.graph.expr import Arg as Input
from rekindle.graph.expr import Cast, Expr, arguments, evaluate, size, substitute
from rekindle.graph.ir import Value, numpy_dtype
from rekindle.graph.lowering import LogicalCall


@dataclass(frozen=True)
class _Form:
    """How one call walks memory: rows of `inner` steps, a step being one vector or one element."""

    outer: Nest
    """The loops over rows; strides for each input."""
    inner: int
    steps: tuple[int, ...]
    """Elements each input moves a step of the innermost loop."""
    lanes: int = 1
    lane_strides: tuple[int, ...] = ()
    flat: bool = False
    """One row, of `tail` elements more than whole vectors."""
    tail: int = 0
    channels: int = 0
    """C of a blocked output whose last block needs care; else 0."""
    block_loop: int = 0
    """The loop of `outer` that counts channel blocks, where `channels` is set."""


def _score(call: LogicalCall, context: Context) -> float:
    expr, values = _used(call)
    out = call.output
    doubles = any(v.dtype is DType.FLOAT64 for v in (*values, out))
    if (doubles and not context.target.fp64) or math.prod(out.static_shape) >= 2**31:
        return 0.0
    if not all(_fits(v, out) for v in values):
        return 0.0
    try:
        storage_type(out.dtype)
        render(_to(expr, values, out), ["x"] * len(values), [v.dtype for v in values])
    except UnsupportedOperatorError:
        return 0.0
    return 1.0


def _fits(value: Value, out: Value) -> bool:
    """Whether an input's layout can be walked beside the output's."""
    if math.prod(value.static_shape) == 1 or not value.layout.block:
        return True
    same_rank = len(value.static_shape) == len(out.static_shape)
    return value.layout == out.layout and same_rank


def _used(call: LogicalCall) -> tuple[Expr, list[Value]]:
    """The expression over the inputs it reads, and those inputs."""
    read = arguments(call.params["expr"])
    values = [call.inputs[i] for i in read]
    expr = substitute(call.params["expr"], lambda i: Input(read.index(i)))
    return expr, [v for v in values if v is not None]


def _to(expr: Expr, values: Sequence[Value], out: Value) -> Expr:
    kind = result_dtype(expr, [v.dtype for v in values])
    return expr if kind is out.dtype else Cast(out.dtype, expr)


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    expr, values = _used(call)
    out = call.output
    if 0 in out.static_shape:
        return []
    expr = _to(expr, values, out)
    form = _form(expr, values, out, context.target.channel_block)
    rows = form.outer.count
    work = share(context.target, rows, form.inner, form.lanes * (1 + size(expr) // 4))
    defines, integers = _code(expr, values, out, form)
    return [
        Launch(
            kernel="elementwise",
            entry="elementwise",
            defines=(*defines, ("OUT", storage_type(out.dtype)), ("GROUP", str(work.group))),
            args=(*values, *integers, np.int32(rows), np.int32(form.inner), *work.args, out),
            global_size=work.global_size,
            local_size=work.local_size,
            flops=size(expr) * math.prod(out.static_shape),
            bytes_moved=out.nbytes + sum(v.nbytes for v in values),
        )
    ]


def _form(expr: Expr, values: Sequence[Value], out: Value, lanes: int) -> _Form:
    vector = vectorizable(*_in_floats(expr, values, out))
    strides = tuple(_strides(v, out) for v in values)
    nest = Nest(out.layout.physical_shape(out.static_shape), strides)
    if out.layout.block:
        masked = _needs_mask(expr, values, out)
        return _blocked(nest, out, masked, vector and out.layout.block == lanes)
    outer, inner, steps = nest.merged().split()
    vector = vector and all(s in (0, 1) for s in steps)
    wide = tuple(s * lanes for s in steps)
    if vector and not outer.sizes:
        whole, tail = divmod(inner, lanes)
        return _Form(outer, whole, wide, lanes, steps, flat=True, tail=tail)
    aligned = all(
        s % lanes == 0
        for step, along in zip(steps, outer.strides, strict=True)
        if step
        for s in along
    )
    if vector and inner % lanes == 0 and aligned:
        return _Form(outer, inner // lanes, wide, lanes, steps)
    return _Form(outer, inner, steps)


def _strides(value: Value, out: Value) -> tuple[int, ...]:
    """Elements an input moves a step of each dimension of the output's memory."""
    shape, block = out.static_shape, out.layout.block
    if math.prod(value.static_shape) == 1:
        return (0,) * len(out.layout.physical_shape(shape))
    own = (1,) * (len(shape) - len(value.static_shape)) + value.static_shape
    if not block:
        return row_major_strides(own)
    if not value.layout.block:
        n, c, *spatial = row_major_strides(own)
        return (n, c * block, *spatial, c)
    n, c, *spatial, lane = row_major_strides(value.layout.physical_shape(own))
    return (n, c, *spatial, 0 if own[1] < shape[1] else lane)


def _needs_mask(expr: Expr, values: Sequence[Value], out: Value) -> bool:
    """Whether channels past C would be read or written wrongly without care."""
    channels = out.static_shape[1]
    if channels % out.layout.block == 0:
        return False
    for v in values:
        if not v.layout.block or v.static_shape[1] != channels:
            return True
        if math.prod(v.static_shape) == 1:
            return True
    zeros = [np.zeros(1, numpy_dtype(v.dtype)) for v in values]
    return bool(np.any(evaluate(expr, zeros) != 0))


def _blocked(nest: Nest, out: Value, masked: bool, vector: bool) -> _Form:
    """A blocked output. Where masked, the loop over blocks stays by itself and is not innermost."""
    channels = out.static_shape[1] if masked else 0
    loop = 0 if nest.sizes[0] == 1 else 1
    if not vector:
        last = len(nest.sizes) - 1
        outer, inner, steps = nest.merged(fixed=(1, last) if masked else ()).split()
        return _Form(outer, inner, steps, channels=channels, block_loop=loop)
    blocks, block, lane_strides = nest.split()
    blocks = blocks.merged(fixed=(1,) if masked else ())
    if masked and len(blocks.sizes) == loop + 1:
        blocks = Nest((*blocks.sizes, 1), tuple((*s, 0) for s in blocks.strides))
    outer, inner, steps = blocks.split()
    return _Form(outer, inner, steps, block, lane_strides, channels=channels, block_loop=loop)


def _code(
    expr: Expr, values: Sequence[Value], out: Value, form: _Form
) -> tuple[tuple[tuple[str, str], ...], tuple[np.int32, ...]]:
    """Defines of a form, and the integers that follow the inputs among the arguments."""
    names = [f"a{k}" for k in range(len(values))]
    dtypes = [v.dtype for v in values]
    offsets = index_code(form.outer, "row", [f"o{k}" for k in range(len(values))])
    params = [f"const __global {storage_type(t)} *restrict x{k}" for k, t in enumerate(dtypes)]
    integers: dict[str, int] = {}
    whole = expr
    reads = [_read(k, value, form, integers) for k, value in enumerate(values)]
    once = [r for r, step in zip(reads, form.steps, strict=True) if not step and form.lanes > 1]
    before, mask = "", ""
    if form.lanes > 1:
        expr, kinds = _in_floats(expr, values, out)
        text = render(expr, names, kinds, lanes=form.lanes)
    else:
        text = render(expr, names, dtypes)
    if form.channels:
        integers["channels"] = form.channels
        width = form.inner if form.lanes == 1 else form.lanes
        before = f"const int left = min(channels - i{form.block_loop} * {width}, {width});"
        if form.lanes == 1:
            text = f"(i < left ? {text} : 0)"
        else:
            ids, vector = ", ".join(map(str, range(form.lanes))), f"int{form.lanes}"
            mask = f"v = ({vector})({ids}) < ({vector})(left) ? v : (V)(0.0f);"
    tail = ""
    if form.flat:
        integers["tail"] = form.tail
        tail = _tail(whole, values, form)
    defines = (
        ("LANES", str(form.lanes)),
        ("PARAMS", parameters([*params, *offsets.params, *(f"const int {n}" for n in integers)])),
        ("OFFSETS", " ".join([offsets.code, before, *once])),
        ("READ", " ".join(r for r in reads if r not in once)),
        ("EXPR", text),
        ("MASK", mask),
        ("TAIL", tail),
    )
    return defines, (*offsets.args, *map(np.int32, integers.values()))


def _in_floats(expr: Expr, values: Sequence[Value], out: Value) -> tuple[Expr, list[DType]]:
    """The expression as vectors have it: 16-bit floats are widened by loads, rounded by stores."""
    if isinstance(expr, Cast) and expr.dtype is out.dtype and out.dtype in SINGLE:
        kind = result_dtype(expr.arg, [v.dtype for v in values])
        expr = expr.arg if kind in SINGLE else expr
    return expr, [DType.FLOAT32 if v.dtype in SINGLE else v.dtype for v in values]


def _read(k: int, value: Value, form: _Form, integers: dict[str, int]) -> str:
    """C that declares `a<k>`, input k at step `i`; may ask for a run-time integer."""
    step, lanes = form.steps[k], form.lanes
    known = {0: f"o{k}", 1: f"o{k} + i", lanes: f"o{k} + i * {lanes}"}
    if step not in known:
        integers[f"t{k}"] = step
    at = known.get(step, f"o{k} + i * t{k}")
    # A row-major input of C channels ends before the last block does.
    short = bool(form.channels) and not value.layout.block
    if lanes == 1:
        if short and step:
            at = f"o{k} + min(i, left - 1) * {step if step == 1 else f't{k}'}"
        return _scalar(k, value, at)
    lane, kind = form.lane_strides[k], storage_type(value.dtype)
    if lane == 0:
        return f"const V a{k} = (V)(rk1_load({kind}, x{k}, {at}));"
    along = (step, *form.outer.strides[k])
    if lane == 1 and not short and all(s % lanes == 0 for s in along):
        return f"const V a{k} = rk_load({lanes}, {kind}, x{k} + {at});"
    integers[f"l{k}"] = lane
    last = "left - 1" if short else str(lanes - 1)
    return (
        f"V a{k}; {{ union {{ V v; float s[{lanes}]; }} u; "
        f"for (int l = 0; l < {lanes}; l++) "
        f"u.s[l] = rk1_load({kind}, x{k}, {at} + min(l, {last}) * l{k}); "
        f"a{k} = u.v; }}"
    )


def _scalar(k: int, value: Value, at: str) -> str:
    kind = storage_type(value.dtype)
    return f"const {compute_type(value.dtype)} a{k} = rk1_load({kind}, x{k}, {at});"


def _tail(expr: Expr, values: Sequence[Value], form: _Form) -> str:
    """C that computes the elements after the last whole vector, in the first work-item."""
    reads = [_scalar(k, v, "i" if form.steps[k] else "0") for k, v in enumerate(values)]
    text = render(expr, [f"a{k}" for k in range(len(values))], [v.dtype for v in values])
    return (
        "if (get_global_id(0) == 0) "
        f"for (int i = inner * {form.lanes}; i < inner * {form.lanes} + tail; i++) "
        f"{{ {' '.join(reads)} rk1_store(OUT, out, i, {text}); }}"
    )


_ISA = Isa(
    unkept={
        **DECODES.unkept,
        "fma": "the library's sine and cosine reduce large arguments in a loop",
    }
)

register(
    "elementwise",
    Kernel(call="elementwise", score=_score, launches=_launches, isa=_ISA),
)
