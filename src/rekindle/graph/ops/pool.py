"""MaxPool, AveragePool and LpPool over sliding windows, and their global forms.

A window of ceil_mode may reach past the padded end; what lies there never counts. The average
divides by the positions inside x, or inside x and its declared padding (count_include_pad).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.expr import Arg, Expr, call
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Lower, Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag, integer, integers
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import known_rank, numel, required
from rekindle.graph.ops._windows import Window, window, windows_of

NAMES = ("AveragePool", "LpPool", "MaxPool")


def _frame(node: Node, rank: int) -> Window:
    kernel = integers(node, "kernel_shape") or ()
    if len(kernel) != rank - 2:
        raise ModelError(
            f"node {node}: kernel_shape {list(kernel)} does not fit an input of rank {rank}"
        )
    return window(node, kernel, ceil=True)


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    rank = known_rank(node, x, at_least=3)
    if x.shape is None or rank is None:
        shape = None
    else:
        shape = (*x.shape[:2], *_frame(node, rank).output_dims(node, x.shape[2:]))
    return (TensorType(x.dtype, shape), TensorType(DType.INT64, shape))


def _counts(node: Node, frame: Window, x: Array) -> list[int]:
    return [int(d) for d in frame.output_dims(node, x.shape[2:])]


def _flat_windows(node: Node, frame: Window, x: Array, fill: float) -> Array:
    """(N, C, *O, taps): a copy, in which a reduction over the last axis is a pool."""
    counts = _counts(node, frame, x)
    taps = math.prod(frame.kernel)
    return windows_of(x, frame, counts, fill).reshape(*x.shape[:2], *counts, taps)


def _max_pool(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = required(node, inputs, 0)
    values, frame = wide(x), _frame(node, x.ndim)
    lowest = -np.inf if values.dtype.kind == "f" else np.iinfo(values.dtype).min
    taps = _flat_windows(node, frame, values, lowest)
    best = rounded(taps.max(axis=-1), dtype_of(x))
    if len(node.outputs) < 2:
        return (best,)
    spatial = x.shape[2:]
    places = np.arange(math.prod(spatial))
    if flag(node, "storage_order"):
        places = places.reshape(spatial[::-1]).T
    places = np.broadcast_to(places.reshape(1, 1, *spatial), (1, 1, *spatial))
    where = np.broadcast_to(_flat_windows(node, frame, places, -1), taps.shape)
    peak = taps.max(axis=-1, keepdims=True)
    first = ((where >= 0) & ((taps == peak) | np.isnan(taps))).argmax(axis=-1, keepdims=True)
    found = np.take_along_axis(where, first, axis=-1)[..., 0]
    planes = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *(1,) * len(spatial))
    return (best, (found + planes * math.prod(spatial)).astype(np.int64))


def _average_pool(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = required(node, inputs, 0)
    frame = _frame(node, x.ndim)
    total = _flat_windows(node, frame, wide(x), 0).sum(axis=-1)
    return (rounded(total / _divisors(node, frame, x), dtype_of(x)),)


def _divisors(node: Node, frame: Window, x: Array) -> Array:
    """(1, 1, *O): how many positions of each window count."""
    spatial = x.shape[2:]
    inside = np.ones((1, 1, *spatial))
    if flag(node, "count_include_pad"):
        pads, rank = frame.padding(spatial), len(spatial)
        edges = [(pads[i], pads[i + rank]) for i in range(rank)]
        inside = np.pad(inside, [(0, 0), (0, 0), *edges], constant_values=1)
        frame = Window(
            frame.kernel, frame.strides, frame.dilations, (0,) * (2 * rank), "NOTSET", frame.ceil
        )
    counts = _counts(node, _frame(node, x.ndim), x)
    return np.asarray(windows_of(inside, frame, counts, 0).reshape(1, 1, *counts, -1).sum(axis=-1))


def _lp_pool(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = required(node, inputs, 0)
    p, frame = integer(node, "p", 2), _frame(node, x.ndim)
    total = _flat_windows(node, frame, np.abs(wide(x)) ** p, 0).sum(axis=-1)
    return (rounded(total ** (1 / p), dtype_of(x)),)


def _lower(kind: str) -> Lower:
    def lower(lowering: Lowering) -> None:
        x, node = lowering.input(0), lowering.node
        if any(lowering.outputs()[1:]):
            raise NotLowered(f"{node.op_type} with Indices")
        frame = _frame(node, len(x.static_shape))
        lowering.call(
            "pool",
            (x,),
            lowering.output,
            kind=kind,
            kernel=frame.kernel,
            strides=frame.strides,
            pads=frame.padding(x.static_shape[2:]),
            dilations=frame.dilations,
            count_include_pad=kind == "average" and flag(node, "count_include_pad"),
        )

    return lower


def _lower_lp(lowering: Lowering) -> None:
    """The p-th root of the sum of p-th powers, which is a mean times the number of taps."""
    x, out, node = lowering.input(0), lowering.output, lowering.node
    p, frame = integer(node, "p", 2), _frame(node, len(x.static_shape))
    if not x.dtype.is_float:
        raise NotLowered(f"{node.op_type} of {x.dtype}")
    sizes, pads = x.static_shape[2:], frame.padding(x.static_shape[2:])
    rank, counts = len(sizes), out.static_shape[2:]
    ends = [(n - 1) * s + r for n, s, r in zip(counts, frame.strides, frame.reach, strict=True)]
    if any(end > sizes[i] + pads[i] + pads[i + rank] for i, end in enumerate(ends)):
        raise NotLowered(f"{node.op_type} with windows that end outside")
    size: Expr = call("abs", Arg(0))
    powers = lowering.temporary(x.static_shape, x.dtype)
    power = size if p == 1 else Arg(0) * Arg(0) if p == 2 else call("pow", size, float(p))
    lowering.call("elementwise", (x,), powers, expr=power)
    means = lowering.temporary(out.static_shape, x.dtype)
    lowering.call(
        "pool",
        (powers,),
        means,
        kind="average",
        kernel=frame.kernel,
        strides=frame.strides,
        pads=pads,
        dilations=frame.dilations,
        count_include_pad=True,
    )
    total = Arg(0) * float(math.prod(frame.kernel))
    root = total if p == 1 else call("sqrt", total) if p == 2 else call("pow", total, 1 / p)
    lowering.call("elementwise", (means,), out, expr=root)


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    """One for each tap."""
    return math.prod(integers(node, "kernel_shape") or ()) * numel(outputs[0].shape)


register(
    "MaxPool",
    Operator(
        since=1,
        infer=_infer,
        reference=_max_pool,
        lower=_lower("max"),
        flops=_flops,
        layouts="spatial",
    ),
)
register(
    "AveragePool",
    Operator(
        since=7,
        infer=_infer,
        reference=_average_pool,
        lower=_lower("average"),
        flops=_flops,
        layouts="spatial",
    ),
)
register(
    "LpPool",
    Operator(since=2, infer=_infer, reference=_lp_pool, lower=_lower_lp, flops=_flops),
)
