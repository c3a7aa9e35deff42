"""One node against ONNX Runtime: our reference, our types and our lowering must agree with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from lowering_oracle import run_node
from onnx import helper, numpy_helper
from small_models import onnx_runtime

from rekindle.graph import reference
from rekindle.graph.infer import bind
from rekindle.graph.ir import Array, Graph
from rekindle.graph.lowering import NotLowered
from rekindle.graph.onnx_io import load_bytes


def model(
    operator: str,
    inputs: Sequence[Array | None],
    attrs: Mapping[str, Any],
    *,
    opset: int,
    outputs: int | Sequence[str] = 1,
) -> onnx.ModelProto:
    """A model of one node: the first input is the graph's, the others are constants.

    `operator` may be `domain::Type`; `opset` is the default domain's, others come in version 1.
    """
    domain, _, operator = operator.rpartition("::")
    names = ["" if a is None else f"i{k}" for k, a in enumerate(inputs)]
    results = [f"o{k}" for k in range(outputs)] if isinstance(outputs, int) else list(outputs)
    first = inputs[0]
    graph = helper.make_graph(
        [helper.make_node(operator, names, results, domain=domain, **attrs)],
        operator,
        []
        if first is None
        else [
            helper.make_tensor_value_info(
                "i0", helper.np_dtype_to_tensor_dtype(first.dtype), first.shape
            )
        ],
        [helper.make_empty_tensor_value_info(name) for name in results if name],
        [
            numpy_helper.from_array(a, n)
            for a, n in list(zip(inputs, names, strict=True))[1:]
            if a is not None
        ],
    )
    opsets = [helper.make_opsetid("", opset)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def agree(
    operator: str,
    inputs: Sequence[Array | None],
    attrs: Mapping[str, Any] | None = None,
    *,
    opset: int,
    outputs: int | Sequence[str] = 1,
    tolerance: float = 1e-5,
    steps: int = 0,
) -> bool:
    """Whether the node was lowered; AssertionError where anything differs from ONNX Runtime.

    Whole numbers may differ by `steps`.
    """
    proto = model(operator, inputs, attrs or {}, opset=opset, outputs=outputs)
    feeds = {} if inputs[0] is None else {"i0": inputs[0]}
    expected = onnx_runtime(proto, feeds)
    graph = load_bytes(proto.SerializeToString())
    compare(reference.run(graph, feeds), expected, tolerance, "reference", steps)
    bound = bind(graph, {n: a.shape for n, a in feeds.items()})
    for name, array in expected.items():
        inferred = bound.values[name].shape or ()
        fixed = [d if isinstance(d, str) else s for d, s in zip(inferred, array.shape, strict=True)]
        assert list(inferred) == fixed, f"inferred {inferred} instead of {array.shape}"
    lowered = lower(bound, feeds)
    if lowered is not None:
        compare(lowered, expected, tolerance, "lowering", steps)
    return lowered is not None


def lower(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array] | None:
    """Outputs of a bound graph of one node by its logical calls; None where it has none."""
    if not graph.nodes:
        return None
    try:
        return run_node(graph, graph.nodes[0], {**graph.initializers, **feeds})
    except NotLowered:
        return None


def compare(
    got: Mapping[str, Array],
    expected: Mapping[str, Array],
    tolerance: float,
    what: str,
    steps: int = 0,
) -> None:
    """Same dtypes and shapes; values within `tolerance`, relative and of the largest value."""
    for name, array in expected.items():
        assert got[name].dtype == array.dtype, f"{what}: {got[name].dtype}, not {array.dtype}"
        assert got[name].shape == array.shape, f"{what}: {got[name].shape}, not {array.shape}"
        if array.dtype.kind in "iu":
            wide = (np.asarray(a).astype(np.float64) for a in (got[name], array))
            np.testing.assert_allclose(*wide, rtol=0, atol=steps, err_msg=what)
            continue
        finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
        scale = float(np.max(np.abs(finite), initial=1.0)) if array.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(
            got[name], array, rtol=tolerance, atol=tolerance * scale, err_msg=what
        )
