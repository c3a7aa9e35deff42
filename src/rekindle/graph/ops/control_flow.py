"""If, Loop and Scan: subgraphs run on the host, node by node.

On load a subgraph's readings of values around it become further inputs of the node and of its
subgraphs (`onnx_io`), so that a node's inputs are all it needs; the attribute `captured` counts
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Dim, DType, Shape
from rekindle.graph.ir import Array, Graph, Node, numpy_dtype
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import integer, integers
from rekindle.graph.ops._shapes import normalize_axis, optional, unknown_dim
from rekindle.graph.ops._subgraphs import compute_graph, infer_graph

NAMES = ("If", "Loop", "Scan")


def _body(node: Node, key: str) -> Graph:
    graph = node.attr(key)
    if not isinstance(graph, Graph):
        raise ModelError(f"node {node} lacks its subgraph {key}")
    return graph


def _given(node: Node, inputs: Sequence[Any]) -> list[Any]:
    """The inputs, with the trailing absent ones that the file left out."""
    return [*inputs, *[None] * (len(node.inputs) - len(inputs))]


# --- If ----------------------------------------------------------------------------------------


def _if_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    condition, *outer = inputs
    if condition is None or condition.dtype is not DType.BOOL:
        raise ModelError(f"node {node}: its condition must be a bool")
    branches = ("then_branch", "else_branch")
    if condition.constant is not None and condition.constant.size == 1:
        branches = (branches[0 if condition.constant.reshape(-1)[0] else 1],) * 2
    made = [infer_graph(_body(node, key), outer) for key in branches]
    pairs = zip(made[0], made[1], strict=True)
    return tuple(_either(node, a, b, i) for i, (a, b) in enumerate(pairs))


def _either(node: Node, a: TensorType, b: TensorType, output: int) -> TensorType:
    """What is true of both branches."""
    if a.dtype is not b.dtype:
        raise ModelError(f"node {node}: its branches give {a.dtype} and {b.dtype}")
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return TensorType(a.dtype, None)
    dims = (
        x if x == y else unknown_dim(node, axis, output)
        for axis, (x, y) in enumerate(zip(a.shape, b.shape, strict=True))
    )
    return TensorType(a.dtype, tuple(dims))


def _if(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    condition, *outer = inputs
    branch = "then_branch" if np.all(condition) else "else_branch"
    return compute_graph(_body(node, branch), outer)


# --- Loop --------------------------------------------------------------------------------------


def _loop_parts(node: Node, inputs: Sequence[Any]) -> tuple[Graph, list[Any], list[Any]]:
    """The body, the carried values, the captured ones."""
    body, values = _body(node, "body"), list(inputs[2:])
    carried = len(values) - integer(node, "captured", 0)
    return body, values[:carried], values[carried:]


def _loop_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    body, carried, outer = _loop_parts(node, _given(node, inputs))
    kept = [o.shape for o in carried]
    while True:
        made = _one_turn(body, carried, kept, outer)
        same = [a if a == t.shape else None for a, t in zip(kept, made, strict=False)]
        if same == kept:
            break
        kept = same
    scans = (_stacked(node, t, i) for i, t in enumerate(made[len(kept) :], len(kept)))
    return (*(TensorType(o.dtype, s) for o, s in zip(carried, kept, strict=True)), *scans)


def _one_turn(
    body: Graph, carried: Sequence[Operand], shapes: Sequence[Shape | None], outer: Sequence[Any]
) -> tuple[TensorType, ...]:
    """What the body gives for carried values of these shapes (None: they change on the way)."""
    counter, go_on = Operand(DType.INT64, ()), Operand(DType.BOOL, ())
    values = [Operand(o.dtype, s) for o, s in zip(carried, shapes, strict=True)]
    return infer_graph(body, [counter, go_on, *values, *outer])[1:]


def _stacked(node: Node, each: TensorType, output: int) -> TensorType:
    shape: Shape | None = None
    if each.shape is not None:
        shape = (unknown_dim(node, 0, output), *each.shape)
    return TensorType(each.dtype, shape)


def _loop(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    body, carried, outer = _loop_parts(node, _given(node, inputs))
    trips, condition = optional(inputs, 0), optional(inputs, 1)
    limit = None if trips is None else int(trips.reshape(-1)[0])
    go_on = condition is None or bool(condition.reshape(-1)[0])
    scanned: list[list[Array]] = [[] for _ in body.outputs[1 + len(carried) :]]
    count = 0
    while go_on and (limit is None or count < limit):
        made = compute_graph(
            body, [np.asarray(count, np.int64), np.asarray(go_on), *carried, *outer]
        )
        go_on, count = bool(made[0].reshape(-1)[0]), count + 1
        carried = list(made[1 : 1 + len(carried)])
        for rows, row in zip(scanned, made[1 + len(carried) :], strict=True):
            rows.append(row)
    return (
        *carried,
        *(_stack(node, body, i, rows) for i, rows in enumerate(scanned, 1 + len(carried))),
    )


def _stack(node: Node, body: Graph, output: int, rows: list[Array]) -> Array:
    if rows:
        return np.stack(rows)
    value = body.values.get(body.outputs[output])
    if value is None or value.shape is None:
        raise ModelError(f"node {node} did not loop, and its body does not tell what it would give")
    dims = (d if isinstance(d, int) else 0 for d in value.shape)
    return np.zeros((0, *dims), numpy_dtype(value.dtype))


# --- Scan --------------------------------------------------------------------------------------


def _scan_parts(node: Node, inputs: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """States, scanned inputs, captured values."""
    captured, count = integer(node, "captured", 0), integer(node, "num_scan_inputs")
    values = _given(node, inputs)
    given, outer = values[: len(values) - captured], values[len(values) - captured :]
    if not 1 <= count <= len(given):
        raise ModelError(f"node {node} scans {count} of {len(given)} inputs")
    return given[: len(given) - count], given[len(given) - count :], outer


def _axes(node: Node, key: str, count: int) -> tuple[int, ...]:
    return integers(node, key) or (0,) * count


def _scan_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    states, scanned, outer = _scan_parts(node, inputs)
    body, rows = _body(node, "body"), []
    length: Dim = unknown_dim(node, 0)
    for given, axis in zip(scanned, _axes(node, "scan_input_axes", len(scanned)), strict=True):
        shape: Shape | None = None
        if given.shape is not None:
            along = normalize_axis(node, axis, len(given.shape))
            length = given.shape[along]
            shape = (*given.shape[:along], *given.shape[along + 1 :])
        rows.append(Operand(given.dtype, shape))
    plain = [replace(s, constant=None) for s in states]
    made = infer_graph(body, [*plain, *rows, *outer])
    axes = _axes(node, "scan_output_axes", len(made) - len(states))
    stacked = []
    for kind, axis in zip(made[len(states) :], axes, strict=True):
        shape = None
        if kind.shape is not None:
            along = normalize_axis(node, axis, len(kind.shape) + 1)
            shape = (*kind.shape[:along], length, *kind.shape[along:])
        stacked.append(TensorType(kind.dtype, shape))
    return (*(TensorType(s.dtype, s.shape) for s in states), *stacked)


def _scan(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    states, scanned, outer = _scan_parts(node, inputs)
    body, count = _body(node, "body"), len(states)
    backwards = _axes(node, "scan_input_directions", len(scanned))
    rows = [
        np.moveaxis(x, axis, 0)[:: -1 if back else 1]
        for x, axis, back in zip(
            scanned, _axes(node, "scan_input_axes", len(scanned)), backwards, strict=True
        )
    ]
    found: list[list[Array]] = [[] for _ in body.outputs[count:]]
    for step in range(len(rows[0])):
        made = compute_graph(body, [*states, *(np.asarray(r[step]) for r in rows), *outer])
        states = list(made[:count])
        for kept, row in zip(found, made[count:], strict=True):
            kept.append(row)
    axes = _axes(node, "scan_output_axes", len(found))
    reverse = _axes(node, "scan_output_directions", len(found))
    stacked = [
        np.moveaxis(_stack(node, body, count + i, kept[:: -1 if back else 1]), 0, axis)
        for i, (kept, axis, back) in enumerate(zip(found, axes, reverse, strict=True))
    ]
    return (*states, *stacked)


# --- Scan of opset 8 ---------------------------------------------------------------------------


def _batched_scan_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    """Axis 0 counts batch rows, axis 1 of scanned values the steps; input 0 holds lengths."""
    body, (states, scanned, outer) = (
        _body(node, "body"),
        _scan_parts(replace(node, inputs=node.inputs[1:]), inputs[1:]),
    )
    batch: Dim = unknown_dim(node, 0)
    steps: Dim = unknown_dim(node, 1)
    rows = []
    for given, leading in [*((s, 1) for s in states), *((s, 2) for s in scanned)]:
        shape: Shape | None = None
        if given.shape is not None:
            if len(given.shape) < leading:
                raise ModelError(f"node {node} scans a value of shape {list(given.shape)}")
            batch, shape = given.shape[0], given.shape[leading:]
            steps = given.shape[1] if leading == 2 else steps
        rows.append(Operand(given.dtype, shape))
    made = infer_graph(body, [*rows, *outer])
    stacked = (
        TensorType(t.dtype, None if t.shape is None else (batch, steps, *t.shape))
        for t in made[len(states) :]
    )
    return (*(TensorType(s.dtype, s.shape) for s in states), *stacked)


def _batched_scan(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Each batch row by itself; what lies past a row's length stays zero in the outputs."""
    lengths, body = inputs[0], _body(node, "body")
    states, scanned, outer = _scan_parts(replace(node, inputs=node.inputs[1:]), inputs[1:])
    count, backwards = len(states), integers(node, "directions") or (0,) * len(scanned)
    limit, finals, outputs = scanned[0].shape[1], [], []
    for row in range(scanned[0].shape[0]):
        length = limit if lengths is None else int(lengths.reshape(-1)[row])
        carried: list[Array] = [np.asarray(s[row]) for s in states]
        parts = [
            x[row, :length][:: -1 if back else 1]
            for x, back in zip(scanned, backwards, strict=True)
        ]
        found: list[list[Array]] = [[] for _ in body.outputs[count:]]
        for step in range(length):
            made = compute_graph(body, [*carried, *(np.asarray(p[step]) for p in parts), *outer])
            carried = list(made[:count])
            for kept, each in zip(found, made[count:], strict=True):
                kept.append(each)
        finals.append(carried)
        stacked = [_stack(node, body, count + i, kept) for i, kept in enumerate(found)]
        outputs.append(
            [np.pad(s, [(0, limit - length)] + [(0, 0)] * (s.ndim - 1)) for s in stacked]
        )
    return (
        *(np.stack(rows) for rows in zip(*finals, strict=True)),
        *(np.stack(rows) for rows in zip(*outputs, strict=True)),
    )


register("If", Operator(since=1, infer=_if_infer, reference=_if))
register("Loop", Operator(since=1, infer=_loop_infer, reference=_loop))
register(
    "Scan",
    Operator(since=8, infer=_batched_scan_infer, reference=_batched_scan),
    Operator(since=9, infer=_scan_infer, reference=_scan),
)
