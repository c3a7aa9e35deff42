"""Pad: constant, reflect, edge and wrap; negative padding crops.

`pads` and `value` are attributes until opset 10, inputs since 11; axes came in 18, wrap in 19.
A lowering maps each output position to an input position, axis by axis; runs of positions with
one step are strided copies.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Dim
from rekindle.graph.ir import Array, Node, dtype_of, numpy_dtype
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integers, number, text
from rekindle.graph.ops._copies import Walk, copy, row_major
from rekindle.graph.ops._shapes import (
    normalize_axis,
    optional,
    required,
    unknown_shape,
    whole_numbers,
)

_MODES = ("constant", "reflect", "edge", "wrap")

Edges = list[tuple[int, int]]
"""Padding before and after, for each axis."""


def _mode(node: Node) -> str:
    return text(node, "mode", "constant", choices=_MODES)


def _edges(
    node: Node, rank: int, pads: tuple[int, ...] | None, axes: tuple[int, ...] | None
) -> Edges:
    places = [normalize_axis(node, a, rank) for a in (range(rank) if axes is None else axes)]
    if pads is None or len(pads) != 2 * len(places):
        raise ModelError(
            f"node {node}: pads {list(pads or ())} do not give a begin and an end for "
            f"{len(places)} axes"
        )
    edges = [(0, 0)] * rank
    for i, axis in enumerate(places):
        edges[axis] = (pads[i], pads[i + len(places)])
    return edges


def _padded(node: Node, dim: Dim, edge: tuple[int, int]) -> Dim:
    before, after = edge
    if isinstance(dim, int):
        if dim + before + after < 0:
            raise ModelError(f"node {node}: padding {edge} crops more than the {dim} positions")
        return dim + before + after
    return f"({dim}{before + after:+d})" if before + after else dim


def _typed(
    node: Node, x: Operand, pads: tuple[int, ...] | None, axes: tuple[int, ...] | None
) -> tuple[TensorType, ...]:
    _mode(node)
    if x.shape is None:
        return (TensorType(x.dtype, None),)
    edges = _edges(node, len(x.shape), pads, axes)
    shape = tuple(_padded(node, d, e) for d, e in zip(x.shape, edges, strict=True))
    return (TensorType(x.dtype, shape),)


def _attributes_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    return _typed(node, required(node, inputs, 0), integers(node, "pads"), None)


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, pads, axes = required(node, inputs, 0), required(node, inputs, 1), optional(inputs, 3)
    if pads.constant is None or (axes is not None and axes.constant is None):
        shape = None if x.shape is None else unknown_shape(node, len(x.shape))
        return (TensorType(x.dtype, shape),)
    given = whole_numbers(node, axes.constant) if axes is not None else None
    return _typed(node, x, whole_numbers(node, pads.constant), given)


def _pad(node: Node, x: Array, edges: Edges, value: Array) -> Array:
    """numpy.pad after cropping; NumPy's own modes are ONNX's."""
    crops = [(max(-b, 0), max(-a, 0)) for b, a in edges]
    grows = [(max(b, 0), max(a, 0)) for b, a in edges]
    kept = [slice(b, size - a) for (b, a), size in zip(crops, x.shape, strict=True)]
    core = x[tuple(kept)]
    mode = _mode(node)
    if mode != "constant":
        return np.pad(core, grows, mode=mode)  # type: ignore[call-overload,no-any-return]
    shape = [size + b + a for (b, a), size in zip(grows, core.shape, strict=True)]
    padded = np.full(shape, value.reshape(()), dtype=x.dtype)
    inner = [slice(b, b + size) for (b, _), size in zip(grows, core.shape, strict=True)]
    padded[tuple(inner)] = core
    return padded


def _attributes_reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = required(node, inputs, 0)
    value = np.asarray(number(node, "value", 0.0))
    return (_pad(node, x, _edges(node, x.ndim, integers(node, "pads"), None), value),)


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, value, axes = required(node, inputs, 0), optional(inputs, 2), optional(inputs, 3)
    pads = whole_numbers(node, required(node, inputs, 1))
    edges = _edges(node, x.ndim, pads, whole_numbers(node, axes))
    nothing = np.zeros((), numpy_dtype(dtype_of(x)))
    return (_pad(node, x, edges, nothing if value is None or not value.size else value),)


# --- lowering ----------------------------------------------------------------------------------

Run = tuple[int, int, int, int]
"""Output start, length, input start, input step."""


def _source_positions(mode: str, size: int, edge: tuple[int, int]) -> list[int]:
    """The input position of each output position along one axis; -1: the constant."""
    before, after = edge
    first, last = max(-before, 0), size - max(-after, 0)
    core = list(range(first, last))
    wanted = range(-max(before, 0), len(core) + max(after, 0))
    if mode == "constant" or not core:
        return [core[i] if 0 <= i < len(core) else -1 for i in wanted]
    if mode == "edge":
        return [core[min(max(i, 0), len(core) - 1)] for i in wanted]
    if mode == "wrap":
        return [core[i % len(core)] for i in wanted]
    period = 2 * (len(core) - 1) or 1
    return [core[min(i % period, period - i % period)] for i in wanted]


def _runs(positions: Sequence[int]) -> list[Run]:
    """Positions cut into runs of one step (1, 0 or -1); constants left out."""
    runs: list[Run] = []
    for place, position in enumerate(positions):
        if position < 0:
            continue
        if runs:
            start, count, first, step = runs[-1]
            here = position - (first + (count - 1) * step)
            if start + count == place and abs(here) <= 1 and (count == 1 or here == step):
                runs[-1] = (start, count + 1, first, here)
                continue
        runs.append((place, 1, position, 0))
    return runs


def _lower_edges(lowering: Lowering, edges: Edges, value: Array) -> None:
    x, out, mode = lowering.input(0), lowering.output, _mode(lowering.node)
    shape = x.static_shape
    steps_in, steps_out = row_major(shape), row_major(out.static_shape)
    sources = [_source_positions(mode, n, e) for n, e in zip(shape, edges, strict=True)]
    if any(-1 in positions for positions in sources):
        filler = value.astype(numpy_dtype(x.dtype)).reshape(()).item() if value.size else 0
        lowering.call("fill", (), out, value=filler)
    for runs in itertools.product(*map(_runs, sources)):
        starts, counts, firsts, steps = zip(*runs, strict=True) if runs else ((), (), (), ())
        source = Walk(
            tuple(s * t for s, t in zip(steps, steps_in, strict=True)),
            sum(f * t for f, t in zip(firsts, steps_in, strict=True)),
        )
        target = Walk(steps_out, sum(s * t for s, t in zip(starts, steps_out, strict=True)))
        copy(lowering, x, out, counts, source, target)


def _attributes_lower(lowering: Lowering) -> None:
    node = lowering.node
    edges = _edges(node, len(lowering.input(0).static_shape), integers(node, "pads"), None)
    _lower_edges(lowering, edges, np.asarray(number(node, "value", 0.0)))


def _lower(lowering: Lowering) -> None:
    node, x = lowering.node, lowering.input(0)
    pads, value, axes = (lowering.constant(i) for i in (1, 2, 3))
    if any(lowering.has_input(i) and c is None for i, c in ((1, pads), (2, value), (3, axes))):
        raise NotLowered("its padding is computed at run time")
    edges = _edges(node, len(x.static_shape), whole_numbers(node, pads), whole_numbers(node, axes))
    _lower_edges(lowering, edges, np.zeros(()) if value is None else value)


register(
    "Pad",
    Operator(
        since=2,
        infer=_attributes_infer,
        reference=_attributes_reference,
        lower=_attributes_lower,
    ),
    Operator(since=11, infer=_infer, reference=_reference, lower=_lower),
)
