"""The models that speed is measured with, by name, and their seeded inputs.

`gemm-N` is one product of two N x N inputs, `gemm-N-weights` one with a constant; a path of an
ONNX file is a model, too; all other names are those of zoo.py, exported into a folder once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

NETWORKS = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "squeezenet",
    "yolo_nano",
    "vit_small",
    "bert_small",
    "sd_unet",
    "vae_decoder",
)
"""The set that the goals are stated for."""
PRODUCTS = tuple(f"gemm-{n}{kind}" for n in (512, 1024, 2048) for kind in ("", "-weights"))
Array = np.ndarray[Any, Any]


def find(name: str, batch: int, folder: Path) -> tuple[Path, dict[str, Array]]:
    """The model's file and its feeds at that batch size. A product has none: batch 1 only."""
    if name.endswith(".onnx"):
        return Path(name), _feeds(Path(name), batch)
    if name in PRODUCTS:
        if batch != 1:
            raise ValueError(f"{name} has no batch")
        path = folder / f"{name}.onnx"
        if not path.exists():
            _write_product(name, path)
        return path, _feeds(path, batch)
    import zoo

    return zoo.export(name, folder), zoo.feeds(name, batch)


def _write_product(name: str, path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    size = int(name.split("-")[1])
    typed = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, [size, size]) for n in "aby"}
    weights = []
    if name.endswith("weights"):
        b = np.random.default_rng(1).standard_normal((size, size)).astype(np.float32)
        weights = [numpy_helper.from_array(b, "b")]
    inputs = [typed[n] for n in ("a" if weights else "ab")]
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    graph = helper.make_graph([node], name, inputs, [typed["y"]], weights)
    opset = [helper.make_opsetid("", 17)]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def _feeds(path: Path, batch: int) -> dict[str, Array]:
    """Normal floats, small integers; a dynamic first dimension is the batch."""
    import onnxruntime as ort

    rng = np.random.default_rng(0)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds: dict[str, Array] = {}
    for spec in session.get_inputs():
        if any(not isinstance(d, int) for d in spec.shape[1:]):
            raise ValueError(f"{path.name}: only the batch may be dynamic, not {spec.shape}")
        shape = [d if isinstance(d, int) else batch for d in spec.shape]
        if "float" in spec.type:
            feeds[spec.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            kind = np.bool_ if "bool" in spec.type else np.int32 if "32" in spec.type else np.int64
            feeds[spec.name] = rng.integers(0, 2, shape).astype(kind)
    return feeds
