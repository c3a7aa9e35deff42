"""Many nodes in one model, and what ONNX's reference and ONNX Runtime say of each.

Nodes do not touch each other, so one session compiles them all as one program. Expected values
come from the two judges node by node; `expected` says where they agree.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rekindle import onnx_backend
from rekindle.graph.ir import Array


@dataclass(frozen=True)
class OddNode:
    """One node. Inputs named in `constants` are initializers, the others are fed."""

    name: str
    op: str
    inputs: Sequence[Array | None]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    constants: tuple[int, ...] = ()
    outputs: int = 1
    opset: int = 18


def model(nodes: Sequence[OddNode]) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """One model of all nodes (of one opset), and its feeds; outputs are called `<name>.<i>`."""
    made, infos, weights, outs = [], [], [], []
    feeds: dict[str, Array] = {}
    for node in nodes:
        names = ["" if a is None else f"{node.name}:{i}" for i, a in enumerate(node.inputs)]
        results = [f"{node.name}.{i}" for i in range(node.outputs)]
        made.append(helper.make_node(node.op, names, results, node.name, **node.attrs))
        outs += [helper.make_empty_tensor_value_info(r) for r in results]
        for i, (array, name) in enumerate(zip(node.inputs, names, strict=True)):
            if array is None:
                continue
            if i in node.constants:
                weights.append(numpy_helper.from_array(array, name))
            else:
                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                infos.append(helper.make_tensor_value_info(name, kind, array.shape))
                feeds[name] = array
    graph = helper.make_graph(made, "odd", infos, outs, weights)
    (opset,) = {node.opset for node in nodes}
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), feeds


def run(nodes: Sequence[OddNode], device: str, *, strict: bool = False) -> dict[str, list[Array]]:
    """Outputs of every node, by name, of one model on "OPENCL" or "CPU" (our reference)."""
    proto, feeds = model(nodes)
    options = {"strict": True} if strict else {}
    found = iter(onnx_backend.run_model(proto, feeds, device, **options))
    return {node.name: [next(found) for _ in range(node.outputs)] for node in nodes}


def onnx_reference(node: OddNode) -> list[Array] | str:
    """Outputs by ONNX's own Python reference, or why it has none."""
    proto, feeds = model([node])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return [np.asarray(a) for a in ReferenceEvaluator(proto).run(None, feeds)]
        except Exception as error:  # it raises whatever NumPy raises
            return f"{type(error).__name__}: {error}"


def onnx_runtime(node: OddNode) -> list[Array] | str:
    """Outputs by ONNX Runtime without its optimiser, or why it has none."""
    proto, feeds = model([node])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return list(session.run(None, feeds))
    except Exception as error:  # its exceptions share no base class
        return f"{type(error).__name__}: {error}"


def same(a: Sequence[Array], b: Sequence[Array], rtol: float = 1e-5) -> bool:
    """Equal dtypes, shapes, NaN and infinities; numbers within rtol."""
    for x, y in zip(a, b, strict=True):
        if x.dtype != y.dtype or x.shape != y.shape:
            return False
        if x.dtype.kind in "fV":  # V: bfloat16
            x, y = x.astype(np.float64), y.astype(np.float64)
            if not np.allclose(x, y, rtol=rtol, atol=1e-7, equal_nan=True):
                return False
        elif not np.array_equal(x, y):
            return False
    return True
