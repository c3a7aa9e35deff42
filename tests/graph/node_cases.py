"""The official ONNX node tests that concern the registered operators."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.numpy_helper
from onnx.backend.test.loader import load_model_tests

from rekindle.graph import ops
from rekindle.graph.ir import Array, Graph
from rekindle.graph.onnx_io import load_bytes
from rekindle.graph.ops._attributes import ONNX_DTYPES

EXCLUDED = {
    "test_training_dropout": "drops at random",
    "test_training_dropout_default": "drops at random",
    "test_training_dropout_default_mask": "drops at random",
    "test_training_dropout_mask": "drops at random",
    "test_training_dropout_zero_ratio": "training mode is refused, whatever the ratio",
    "test_training_dropout_zero_ratio_mask": "training mode is refused, whatever the ratio",
    "test_resize_downsample_scales_cubic_align_corners": "recorded for a fractional output size",
    "test_resize_downsample_scales_linear_align_corners": "recorded for a fractional output size",
}
"""Cases that are not run although their operators and element types are known."""


@dataclass(frozen=True)
class NodeCase:
    """One model of one node (or of the nodes a function expands to), with recorded arrays."""

    name: str
    model: onnx.ModelProto
    feeds: dict[str, Array]
    expected: dict[str, Array]

    @property
    def operator(self) -> str:
        """The operator, or "expanded" for a function written out in other operators."""
        nodes = self.model.graph.node
        return "expanded" if "_expanded" in self.name or len(nodes) > 1 else nodes[0].op_type

    def graph(self) -> Graph:
        """The model as we load it; cases older than opset 7 mean the same there."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for entry in model.opset_import:
            entry.version = entry.version if entry.domain else max(entry.version, 7)
        return load_bytes(model.SerializeToString())


@functools.cache
def cases() -> dict[str, tuple[NodeCase, ...]]:
    """Operator → its cases; generating them takes seconds, so once."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found: dict[str, list[NodeCase]] = {}
        for case in load_model_tests(kind="node"):
            for made in _cases_of(case):
                found.setdefault(made.operator, []).append(made)
    return {operator: tuple(made) for operator, made in found.items()}


def _cases_of(case: object) -> Iterator[NodeCase]:
    model, data = case.model, case.data_sets  # type: ignore[attr-defined]
    if model is None or case.name in EXCLUDED or not _concerns_us(model):  # type: ignore[attr-defined]
        return
    for index, (inputs, outputs) in enumerate(data):
        names = [i.name for i in model.graph.input]
        results = [o.name for o in model.graph.output]
        yield NodeCase(
            f"{case.name}.{index}" if index else case.name,  # type: ignore[attr-defined]
            model,
            {n: _array(a) for n, a in zip(names, inputs, strict=True)},
            {n: _array(a) for n, a in zip(results, outputs, strict=True)},
        )


def _array(recorded: Array | onnx.TensorProto) -> Array:
    if isinstance(recorded, onnx.TensorProto):
        return onnx.numpy_helper.to_array(recorded)
    return np.asarray(recorded)


def _concerns_us(model: onnx.ModelProto) -> bool:
    opset = max((o.version for o in model.opset_import if not o.domain), default=7)
    known = all(
        not node.domain and ops.find(node.op_type, opset) is not None for node in model.graph.node
    )
    infos = [*model.graph.input, *model.graph.output]
    plain = all(i.type.WhichOneof("value") == "tensor_type" for i in infos)
    types = {i.type.tensor_type.elem_type for i in infos} | {
        attribute.i
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.name in ("to", "output_dtype", "dtype") and attribute.i
    }
    return known and plain and types <= ONNX_DTYPES.keys()


def tolerance(*arrays: Array) -> dict[str, float]:
    """ONNX's own (1e-3, 1e-7), wider where a 16-bit float is among the arrays."""
    names = {a.dtype.name for a in arrays}
    if "bfloat16" in names:
        return {"rtol": 2e-2, "atol": 1e-2}
    if "float16" in names:
        return {"rtol": 4e-3, "atol": 1e-3}
    return {"rtol": 1e-3, "atol": 1e-6}


def assert_close(got: Array, expected: Array, *others: Array) -> None:
    """Same dtype and shape, values within `tolerance`; NaN equals NaN."""
    assert got.shape == expected.shape, f"{got.shape} instead of {expected.shape}"
    if expected.dtype.kind in "UO":
        assert got.tolist() == expected.astype(object).tolist()
        return
    assert got.dtype == expected.dtype, f"{got.dtype} instead of {expected.dtype}"
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(got, expected)
        return
    wide = (np.asarray(a).astype(np.float64) for a in (got, expected))
    np.testing.assert_allclose(*wide, **tolerance(got, expected, *others))
