"""A NumPy interpreter of logical calls: what engines must compute, on row-major values.

Written from the table in `rekindle.graph.lowering`, apart from the operators' references, so that
an operator whose lowering gives its reference's values here is lowered rightly for every engine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rekindle._types import DType
from rekindle.graph import ops
from rekindle.graph.expr import Expr, evaluate
from rekindle.graph.ir import Array, Graph, Node, Value, numpy_dtype
from rekindle.graph.lowering import LogicalCall, Lowering


def run_node(graph: Graph, node: Node, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of a node by its logical calls; NotLowered where it has none."""
    operator = ops.find(node.qualified, graph.opset(node.domain))
    assert operator is not None
    lowering = Lowering(graph, node)
    ops.lower(operator, lowering)
    known = {**graph.initializers, **lowering.literals, **arrays}
    values = run_calls(lowering.calls, known)
    # No call writes what is empty.
    outputs = [graph.values[name] for name in node.outputs if name]
    return {v.name: values[v.name] if v.name in values else _unwritten(v) for v in outputs}


def run_calls(calls: Sequence[LogicalCall], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Every value after the calls, by name; an element that no call wrote is NaN (or -85)."""
    values = dict(arrays)
    with np.errstate(all="ignore"):
        for call in calls:
            inputs = [values[v.name].reshape(v.static_shape) if v else None for v in call.inputs]
            out = values.get(call.output.name)
            made = _CALLS[call.name](call, inputs, out)
            dtype = numpy_dtype(call.output.dtype)
            values[call.output.name] = made.reshape(call.output.static_shape).astype(dtype)
    return values


def _unwritten(value: Value) -> Array:
    dtype = numpy_dtype(value.dtype)
    poison: float = np.nan if value.dtype.is_float else (1 if dtype.kind in "bu" else -85)
    return np.full(value.static_shape, poison, dtype)


def _epilogue(call: LogicalCall, y: Array, operands: Sequence[Array | None]) -> Array:
    expr: Expr | None = call.params["epilogue"]
    if expr is None:
        assert not operands
        return y
    return evaluate(expr, [y, *(o for o in operands if o is not None)])


def _elementwise(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    values = evaluate(call.params["expr"], inputs)
    return np.broadcast_to(values, call.output.static_shape)


def _taps(call: LogicalCall, kernel: Sequence[int], x: Array) -> Any:
    """For each tap: its index, and (output slices, input slices) of the positions inside x."""
    rank, spatial, result = len(kernel), x.shape[2:], call.output.static_shape[2:]
    strides, pads, dilations = (call.params[k] for k in ("strides", "pads", "dilations"))
    for tap in itertools.product(*map(range, kernel)):
        outer, inner = [], []
        for i in range(rank):
            first = tap[i] * dilations[i] - pads[i]
            low = max(-(first // strides[i]), 0) if first < 0 else 0
            high = min((spatial[i] - 1 - first) // strides[i], result[i] - 1)
            outer.append(slice(low, max(high + 1, low)))
            start = first + low * strides[i]
            inner.append(slice(start, max(first + high * strides[i] + 1, start), strides[i]))
        yield tap, (..., *outer), (..., *inner)


def _conv(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    """The sum over taps of a channel product on the shifted input."""
    x, w, bias, *operands = inputs
    group, (n, filters, *spatial) = call.params["group"], call.output.static_shape
    x = x.astype(np.float64).reshape(n, group, x.shape[1] // group, *x.shape[2:])
    w = w.astype(np.float64).reshape(group, filters // group, *w.shape[1:])
    y = np.zeros((n, group, filters // group, *spatial))
    flat = x.reshape(n, -1, *x.shape[3:])
    for tap, outer, inner in _taps(call, w.shape[3:], flat):
        shifted = x[inner]
        y[outer] += np.einsum("ngc...,gfc->ngf...", shifted, w[(..., *tap)])
    y = y.reshape(n, filters, *spatial)
    if bias is not None:
        y = y + bias.astype(np.float64).reshape(-1, *(1,) * len(spatial))
    return _epilogue(call, y.astype(numpy_dtype(call.output.dtype)), operands)


def _matmul(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    a, b, *operands = inputs
    a = a.swapaxes(-1, -2) if call.params["transpose_a"] else a
    b = b.swapaxes(-1, -2) if call.params["transpose_b"] else b
    assert a.ndim >= 2
    assert b.ndim >= 2
    y = np.einsum("...mk,...kn->...mn", a.astype(np.float64), b.astype(np.float64))
    y = _epilogue(call, y.astype(numpy_dtype(call.output.dtype)), operands)
    return np.broadcast_to(y, call.output.static_shape)


def _pool(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    (x,) = inputs
    kernel, shape = call.params["kernel"], call.output.static_shape
    if call.params["kind"] == "max":
        low: float = -np.inf if x.dtype.kind not in "iu" else np.iinfo(x.dtype).min
        best = np.full(shape, low, x.dtype)
        for _, outer, inner in _taps(call, kernel, x):
            best[outer] = np.maximum(best[outer], x[inner])
        return best
    total, count = np.zeros(shape), np.zeros(shape)
    for _, outer, inner in _taps(call, kernel, x):
        total[outer] += x[inner]
        count[outer] += 1
    if call.params["count_include_pad"]:
        count = _padded_counts(call, x.shape[2:])
    return total / count


def _padded_counts(call: LogicalCall, spatial: Sequence[int]) -> Array:
    """Positions of each window inside x and its declared padding."""
    counts: Array = np.ones(())
    rank, params = len(spatial), call.params
    for i, size in enumerate(call.output.static_shape[2:]):
        end = spatial[i] + params["pads"][i] + params["pads"][i + rank]
        starts = np.arange(size)[:, None] * params["strides"][i]
        taps = starts + np.arange(params["kernel"][i]) * params["dilations"][i]
        counts = np.multiply.outer(counts, (taps < end).sum(axis=1))
    return counts


_REDUCTIONS = {
    "sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "prod": np.prod,
    "sum_square": lambda x, **kw: np.sum(x * x, **kw),
}  # fmt: skip


def _reduce(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    (x,) = inputs
    axes = call.params["axes"]
    assert axes
    assert list(axes) == sorted(set(axes))
    wide = x if call.params["kind"] in ("max", "min") or x.dtype.kind in "iub" else None
    values = x.astype(np.float64) if wide is None else wide
    return np.asarray(_REDUCTIONS[call.params["kind"]](values, axis=axes))


def _arg_reduce(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    (x,), axis = inputs, call.params["axis"]
    # NaN never wins, but one in front is never passed by: there it is as good as the extreme.
    extreme = (np.fmax if call.params["kind"] == "max" else np.fmin).reduce(
        x, axis=axis, keepdims=True
    )
    front = np.isnan(np.take(x, [0], axis)) if x.dtype.kind == "f" else False
    x = np.where(front, np.nan, x)
    x[(slice(None),) * axis + (slice(0, 1),)] = np.where(front, extreme, np.take(x, [0], axis))
    places = np.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    if call.params["last"]:
        return np.where(x == extreme, places, -1).max(axis=axis)
    return np.where(x == extreme, places, x.shape[axis]).min(axis=axis)


def _softmax(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    (x,), axis = inputs, call.params["axis"]
    assert 0 <= axis < x.ndim
    x = x.astype(np.float64)
    logs = x - np.logaddexp.reduce(x, axis=axis, keepdims=True)
    return logs if call.params["log"] else np.exp(logs)


def _copy(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    """Element by element, by flat index."""
    (x,), params = inputs, call.params
    out = _unwritten(call.output) if out is None else out.copy()
    index = np.indices(params["shape"], sparse=True)
    source = params["in_offset"] + sum(
        i * s for i, s in zip(index, params["in_strides"], strict=True)
    )
    target = params["out_offset"] + sum(
        i * s for i, s in zip(index, params["out_strides"], strict=True)
    )
    source, target = np.broadcast_arrays(source, target)
    assert source.min() >= 0
    assert target.min() >= 0
    assert np.unique(target).size == target.size, "an element is written twice"
    flat = out.reshape(-1)
    flat[target] = x.reshape(-1)[source]
    return flat


def _fill(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    return np.full(call.output.static_shape, call.params["value"])


def _gather(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    x, indices = inputs
    axis = call.params["axis"]
    rows = np.moveaxis(x, axis, 0)[indices]
    return np.moveaxis(rows.reshape(indices.size, *rows.shape[indices.ndim :]), 0, axis).reshape(
        call.output.static_shape
    )


def _gather_elements(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    x, indices = inputs
    places = list(np.indices(indices.shape))
    axis = call.params["axis"]
    places[axis] = np.where(indices < 0, indices + x.shape[axis], indices)
    return np.asarray(x[tuple(places)])


def _gather_nd(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    x, indices = inputs
    batch = call.params["batch"]
    rows = [x[(*row[:batch], *indices[row])] for row in np.ndindex(*indices.shape[:-1])]
    return np.stack(rows).reshape(call.output.static_shape)


_JOINS = {
    "none": lambda a, b: b, "add": np.add, "mul": np.multiply, "max": np.maximum,
    "min": np.minimum,
}  # fmt: skip


def _scatter_elements(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    """One update after another."""
    x, indices, updates = inputs
    y, join, axis = x.copy(), _JOINS[call.params["reduction"]], call.params["axis"]
    for place in np.ndindex(*indices.shape):
        to = (*place[:axis], indices[place], *place[axis + 1 :])
        y[to] = join(y[to], updates[place])
    return y


def _scatter_nd(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    x, indices, updates = inputs
    y, join = x.copy(), _JOINS[call.params["reduction"]]
    for row in np.ndindex(*indices.shape[:-1]):
        to = tuple(indices[row])
        y[to] = join(y[to], updates[row])
    return y


def _top_k(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    """Sorted by hand: the better number first, then the lower place."""
    (x,), axis, largest = inputs, call.params["axis"], call.params["largest"]
    lines = np.moveaxis(x, axis, -1)
    found = np.empty((*lines.shape[:-1], call.params["k"]), np.int64)
    for line in np.ndindex(*lines.shape[:-1]):
        numbers = [float(v) if v.dtype.kind == "f" else int(v) for v in lines[line]]
        order = sorted(
            range(len(numbers)),
            key=lambda i: (
                (numbers[i] != numbers[i]) != largest,  # NaN is above all numbers
                -numbers[i] if largest else numbers[i],
                i,
            ),
        )
        found[line] = order[: call.params["k"]]
    return np.moveaxis(found, -1, axis)


def _cumulate(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    (x,), p = inputs, call.params
    wide = x.astype(np.float64) if x.dtype.kind not in "iu" else x
    lines = np.moveaxis(wide, p["axis"], 0)[:: -1 if p["reverse"] else 1]
    join = np.add if p["kind"] == "sum" else np.multiply
    total, kept = np.full(lines.shape[1:], join.identity, lines.dtype), []
    for row in lines:
        after = join(total, row)
        kept.append(total if p["exclusive"] else after)
        total = after
    return np.moveaxis(np.stack(kept)[:: -1 if p["reverse"] else 1], 0, p["axis"])


def _matmul_integer(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    a, b, za, zb = inputs
    a = a.astype(np.int64) - (0 if za is None else za.astype(np.int64).reshape(-1, 1))
    b = b.astype(np.int64) - (0 if zb is None else zb.astype(np.int64).reshape(1, -1))
    return np.einsum("...mk,...kn->...mn", a, b)


def _conv_integer(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    x, w, zx, zw = inputs
    x = x.astype(np.float64) - (0 if zx is None else float(zx.reshape(())))
    if zw is not None:
        w = w - zw.astype(np.float64).reshape(-1, *(1,) * (w.ndim - 1))
    plain = replace(call, params={**call.params, "epilogue": None})
    plain = replace(plain, output=replace(call.output, dtype=DType.FLOAT64))
    return _conv(plain, [x, w, None], out)


def _view(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    (x,) = inputs
    assert x.size == math.prod(call.output.static_shape)
    return x


def _normalize(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    p, (x, scale, bias) = call.params, inputs
    rows = x.reshape(-1, p["length"]).astype(np.float64)
    mean = 0 if p["rms"] else rows.mean(1, keepdims=True)
    y = (rows - mean) / np.sqrt(np.square(rows - mean).mean(1, keepdims=True) + p["epsilon"])
    period, step, inner = p["affine"]
    at = np.arange(len(rows))[:, None] % period * step + np.arange(p["length"]) // inner
    y = y if scale is None else y * scale.reshape(-1)[at]
    return np.asarray(y if bias is None else y + bias.reshape(-1)[at])


def _attention(call: LogicalCall, inputs: list[Any], out: Array | None) -> Array:
    p = call.params
    batch, heads, queries, keys, size, value_size = p["sizes"]

    def strided(array: Array, name: str, *shape: int) -> Array:
        steps = [s * array.itemsize for s in p[f"{name}_strides"]]
        return np.lib.stride_tricks.as_strided(array, shape, steps)

    q = strided(inputs[0], "q", batch, heads, queries, size).astype(np.float64)
    k = strided(inputs[1], "k", batch, heads, keys, size)
    v = strided(inputs[2], "v", batch, heads, keys, value_size)
    scores = np.einsum("bhqd,bhkd->bhqk", q, k) * p["scale"]
    if inputs[3] is not None:
        scores += strided(inputs[3], "mask", batch, heads, queries, keys)
    powers = np.exp(scores - scores.max(3, keepdims=True))
    y = np.full(call.output.static_shape, np.nan)
    result = np.einsum("bhqk,bhkd->bhqd", powers / powers.sum(3, keepdims=True), v)
    strided(y, "y", batch, heads, queries, value_size)[...] = result
    return y


_CALLS = {
    "elementwise": _elementwise, "conv": _conv, "matmul": _matmul, "pool": _pool,
    "reduce": _reduce, "arg_reduce": _arg_reduce, "softmax": _softmax, "copy": _copy,
    "fill": _fill, "gather": _gather, "gather_elements": _gather_elements,
    "gather_nd": _gather_nd, "scatter_elements": _scatter_elements, "scatter_nd": _scatter_nd,
    "top_k": _top_k, "cumulate": _cumulate, "matmul_integer": _matmul_integer,
    "conv_integer": _conv_integer, "view": _view, "reorder": _view,
    "attention": _attention, "normalize": _normalize,
}  # fmt: skip
