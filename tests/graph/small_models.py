"""Small ONNX models for the graph's tests, written in ONNX's own text form.

    model("(float[N,3,8,8] x) => (float[N,4,8,8] y) { c = Conv(x, w)  y = Relu(c) }", w=weights)

`agree` is the oracle of every pass: ONNX Runtime on the model as it was, against our operators'
NumPy references on the graph the passes made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx.parser
import onnxruntime
from onnx import numpy_helper

from rekindle._types import Target
from rekindle.graph import ops
from rekindle.graph.infer import bind
from rekindle.graph.ir import Graph
from rekindle.graph.onnx_io import load_bytes
from rekindle.graph.passes import DEVICE, PORTABLE, run

CPU = Target(
    name="two cores",
    family="cpu",
    compute_units=2,
    wavefront=8,
    lds_bytes=32768,
    global_bytes=2**33,
    max_alloc_bytes=2**31,
    alignment_bytes=128,
)


def model(body: str, *, opset: int = 17, ir: int = 8, **weights: np.ndarray) -> onnx.ModelProto:
    """A model from its text; `weights` become initializers."""
    head = f'<ir_version: {ir}, opset_import: ["" : {opset}]> test '
    made = onnx.parser.parse_model(head + body)
    made.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in weights.items())
    return made


def graph_of(body: str, *, opset: int = 17, **weights: np.ndarray) -> Graph:
    return load_bytes(model(body, opset=opset, **weights).SerializeToString())


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    """Random numbers of a sensible size for weights and images."""
    return rng(seed).standard_normal(shape).astype(dtype)


def compute(graph: Graph, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The graph's outputs, by the operators' NumPy references."""
    arrays = {**graph.initializers, **feeds}
    for node in graph.nodes:
        operator = ops.find(node.qualified, graph.opset(node.domain))
        assert operator is not None, node.qualified
        inputs = [arrays[n] if n else None for n in node.inputs]
        arrays |= zip(node.outputs, ops.compute(operator, node, inputs), strict=True)
    return {n: arrays[n] for n in graph.outputs}


def onnx_runtime(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def optimized(
    proto: onnx.ModelProto,
    feeds: Mapping[str, np.ndarray],
    passes: Sequence[str] | None = None,
    target: Target = CPU,
) -> Graph:
    """The model bound to the feeds' shapes after `passes` (None: all), each verified."""
    graph = load_bytes(proto.SerializeToString())
    if passes is None:
        graph = run(graph, PORTABLE, check=True)
    graph = bind(graph, {n: a.shape for n, a in feeds.items()})
    return run(graph, DEVICE if passes is None else passes, target, check=True)


def agree(
    proto: onnx.ModelProto,
    feeds: Mapping[str, np.ndarray],
    passes: Sequence[str] | None = None,
    *,
    target: Target = CPU,
    tolerance: float = 1e-5,
) -> Graph:
    """The optimized graph, after its outputs were found equal to ONNX Runtime's."""
    graph = optimized(proto, feeds, passes, target)
    expected, actual = onnx_runtime(proto, feeds), compute(graph, feeds)
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        scale = np.max(np.abs(array[np.isfinite(array)]), initial=1.0)
        np.testing.assert_allclose(
            actual[name], array, rtol=tolerance, atol=tolerance * scale, err_msg=name
        )
    return graph


def counts(graph: Graph) -> dict[str, int]:
    """Operators of a graph, how often each."""
    return dict(Counter(node.qualified for node in graph.nodes))
