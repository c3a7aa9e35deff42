"""The reference interpreter: a graph run by its operators' NumPy references, node by node."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rekindle._errors import InputError, UnsupportedOperatorError
from rekindle._types import DType
from rekindle.graph import ops
from rekindle.graph.ir import Array, Graph, numpy_dtype
from rekindle.graph.ops import Operator


def run(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of `graph` by name, for one array per graph input.

    Values are freed after their last use. InputError: an input is missing, unknown, or of the
    wrong dtype. UnsupportedOperatorError names every operator that is not known. ModelError: a
    node does not fit its inputs.
    """
    operators = _operators(graph)
    values: dict[str, Array] = {**graph.initializers, **checked(graph, feeds)}
    last = {n: i for i, node in enumerate(graph.nodes) for n in (*node.inputs, *node.outputs)}
    for index, (node, operator) in enumerate(zip(graph.nodes, operators, strict=True)):
        inputs = [values[name] if name else None for name in node.inputs]
        outputs = ops.compute(operator, node, inputs)
        values.update((n, a) for n, a in zip(node.outputs, outputs, strict=False) if n)
        for name in {*node.inputs, *node.outputs}:
            if last[name] == index and name not in graph.outputs:
                values.pop(name, None)
    return {name: np.array(values[name], order="C") for name in graph.outputs}


def difference(found: Array, expected: Array) -> float:
    """max|found - expected| / max|expected| over the finite elements; absolute if all are zero.

    Infinite where the shapes differ, or NaN or an infinity stands in one of them only.
    """
    if found.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind in "OUS":
        return 0.0 if np.array_equal(found, expected) else float("inf")
    a, b = (np.asarray(x).astype(np.float64) for x in (found, expected))
    finite = np.isfinite(b)
    same = np.array_equal(a[~finite], b[~finite], equal_nan=True)
    if not same or not np.isfinite(a[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    with np.errstate(over="ignore"):
        error = float(np.abs(a[finite] - b[finite]).max())
    if expected.dtype.kind in "iu" and not np.array_equal(found, expected):
        error = max(error, 1.0)  # float64 does not tell neighbours among large int64 apart
    return error / (float(np.abs(b[finite]).max()) or 1.0)


def _operators(graph: Graph) -> list[Operator]:
    found = [ops.find(node.qualified, graph.opset(node.domain)) for node in graph.nodes]
    unknown = sorted(
        {n.qualified for n, operator in zip(graph.nodes, found, strict=True) if operator is None}
    )
    if unknown:
        raise UnsupportedOperatorError(
            f"the reference does not know {', '.join(unknown)}",
            hint="run the model with provider='onnxruntime'",
        )
    return [operator for operator in found if operator is not None]


def checked(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The feeds, if there is one of the right dtype for each input; else InputError."""
    if feeds.keys() != set(graph.inputs):
        raise InputError(
            f"got inputs {sorted(feeds)}, the model has {sorted(graph.inputs)}",
            hint="give one array for each of the model's inputs",
        )
    for name, array in feeds.items():
        expected = graph.values[name].dtype
        same = array.dtype == numpy_dtype(expected)
        if not same and not (expected is DType.STRING and array.dtype.kind in "US"):
            raise InputError(f"input {name!r} is {array.dtype}, expected {expected}")
    return dict(feeds)
