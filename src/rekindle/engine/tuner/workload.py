"""Shape classes: the terms of a call that decide which kernel is fast.

A record counts for every call of its class. Channels, filters, strides, groups, storage types and
layouts are exact; what the epilogue does to a sum does not count. Extents that only say how much
work there is (pixels, rows of a product, texts' lengths) are exact to 64 and then rounded up, four
steps an octave (80, 96, 112, 128, 160, ...), so that a text of 130 words finds what was measured
for one of 150.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from rekindle.engine.kernels import Context
from rekindle.engine.kernels._attention import attention
from rekindle.engine.kernels._matmul import product
from rekindle.engine.kernels._window import window
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall

_EXACT = 64
_PER_OCTAVE = 4


def workload(call: LogicalCall, context: Context) -> str | None:
    """The class of a call as text; None for a call that nothing is tuned for."""
    terms = _TERMS.get(call.name)
    if any(part.name != "conv" for part in call.parts):
        return None
    if terms is None or 0 in call.output.static_shape:
        return None
    return f"{call.name} {terms(call, context)}"


def extent(size: int) -> int:
    """`size` to 64; beyond it the next of 80, 96, 112, 128, 160, 192, 224, 256, 320, ..."""
    if size <= _EXACT:
        return size
    step: int = 2 ** (size - 1).bit_length() // 2 // _PER_OCTAVE
    return -(-size // step) * step


def _conv(call: LogicalCall, context: Context) -> str:
    x, w = _required(call, 0), _required(call, 1)
    win = window(call, w.static_shape[2:])
    space = [extent(math.prod(win.out))] if win.is_pointwise else [extent(s) for s in win.out]
    return " ".join(
        (
            f"n{extent(x.static_shape[0])} c{x.static_shape[1]} m{w.static_shape[0]}",
            f"out{_by(space)} k{_by(win.kernel)} s{_by(win.strides)} d{_by(win.dilations)}",
            f"g{call.params['group']} x:{_stored(x)} w:{_weights(call, w, context)}",
            f"y:{_stored(call.output)}{_exact(call)}",
        )
    )


def _matmul(call: LogicalCall, context: Context) -> str:
    what = product(call)
    constant = context.constant(what.b.name) is not None
    # A computed b may be as wide, and as long, as a text.
    n, k = (what.n, what.k) if constant else (extent(what.n), extent(what.k))
    turned = "t" * what.transpose_a + "n" * (not what.transpose_a)
    turned += "t" * what.transpose_b + "n" * (not what.transpose_b)
    return (
        f"b{extent(what.batches)} m{extent(what.m)} n{n} k{k} {turned} a:{_stored(what.a)} "
        f"b:{_weights(call, what.b, context)} y:{_stored(call.output)}"
    )


def _attention(call: LogicalCall, _: Context) -> str:
    what = attention(call)
    batch, heads, queries, keys, size, value_size = what.sizes
    masked = "" if what.mask is None else " masked"
    return (
        f"b{extent(batch)} h{heads} q{extent(queries)} k{extent(keys)} d{size}x{value_size} "
        f"q:{_stored(what.q)} kv:{_stored(what.k)} y:{_stored(call.output)}{masked}"
    )


def _chain(call: LogicalCall, context: Context) -> str:
    return " + ".join(_conv(part, context) for part in call.parts)


_TERMS: Mapping[str, Callable[[LogicalCall, Context], str]] = {
    "chain": _chain,
    "conv": _conv,
    "matmul": _matmul,
    "attention": _attention,
}


def _required(call: LogicalCall, index: int) -> Value:
    value = call.inputs[index]
    assert value is not None
    return value


def _stored(value: Value) -> str:
    block = f"/{value.layout.block}" if value.layout.block else ""
    return f"{value.dtype}{block}"


def _weights(call: LogicalCall, w: Value, context: Context) -> str:
    """Storage type, and how many numbers share a scale; computed ones say so."""
    decode = call.params.get("decode")
    scaled = f"*{decode.group}" if decode is not None else ""
    computed = "" if context.constant(w.name) is not None else "?"
    return f"{w.dtype}{scaled}{computed}"


def _exact(call: LogicalCall) -> str:
    return " exact" if call.params.get("exact") else ""


def _by(sizes: tuple[int, ...] | list[int]) -> str:
    return "x".join(map(str, sizes)) or "1"
