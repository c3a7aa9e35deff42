"""Small ONNX models and targets that engine and runtime tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rekindle._types import Target

POLARIS = Target(
    name="RX 580",
    family="gcn",
    compute_units=36,
    wavefront=64,
    lds_bytes=32768,
    global_bytes=8 * 2**30,
    max_alloc_bytes=2 * 2**30,
    alignment_bytes=256,
)


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A float32 model of these nodes."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def classifier(channels: int = 13, classes: int = 10, seed: int = 0) -> onnx.ModelProto:
    """Stem, batch norm, residual block with SiLU, depthwise, pool, flatten, linear, softmax."""
    rng = np.random.default_rng(seed)

    def w(*shape: int) -> np.ndarray:
        fan = max(1, int(np.prod(shape[1:])))
        return (rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32)

    c = channels
    weights = {
        "w1": w(c, 3, 3, 3),
        "scale": rng.uniform(0.5, 1.5, c).astype(np.float32),
        "shift": w(c),
        "mean": w(c),
        "var": rng.uniform(0.5, 1.5, c).astype(np.float32),
        "w2": w(c, c, 3, 3),
        "b2": w(c),
        "w3": w(c, 1, 3, 3),
        "w4": w(2 * c, c, 1, 1),
        "w5": w(classes, 2 * c),
        "b5": w(classes),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c1", "scale", "shift", "mean", "var"], ["n1"]),
        node("Relu", ["n1"], ["r1"]),
        node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
        node("Sigmoid", ["c2"], ["s2"]),
        node("Mul", ["c2", "s2"], ["m2"]),
        node("Add", ["m2", "r1"], ["a2"]),
        node("Conv", ["a2", "w3"], ["c3"], pads=[1, 1, 1, 1], group=c),
        node("HardSwish", ["c3"], ["h3"]),
        node("Conv", ["h3", "w4"], ["c4"]),
        node("MaxPool", ["c4"], ["p4"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", ["p4"], ["g4"]),
        node("Flatten", ["g4"], ["f4"]),
        node("Gemm", ["f4", "w5", "b5"], ["y5"], transB=1),
        node("Softmax", ["y5"], ["y"], axis=1),
    ]
    return model(nodes, {"x": ["N", 3, 17, 19]}, {"y": ["N", classes]}, weights)


def chain(layers: int = 8, width: int = 64, seed: int = 0) -> onnx.ModelProto:
    """Linear layers of equal size with Relu, one after the other: (N, width) to (N, width)."""
    rng = np.random.default_rng(seed)
    nodes, weights, name = [], {}, "x"
    for k in range(layers):
        weight = rng.standard_normal((width, width)) * np.sqrt(2 / width)
        weights[f"w{k}"] = weight.astype(np.float32)
        weights[f"b{k}"] = rng.standard_normal(width).astype(np.float32)
        nodes.append(helper.make_node("Gemm", [name, f"w{k}", f"b{k}"], [f"h{k}"]))
        name = "y" if k == layers - 1 else f"r{k}"
        nodes.append(helper.make_node("Relu", [f"h{k}"], [name]))
    return model(nodes, {"x": ["N", width]}, {"y": ["N", width]}, weights)


def write(proto: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    onnx.save(proto, path)
    return path
