"""ONNX's own node tests, counted as the project counts them, and one of them run.

Counted are the cases whose inputs and outputs are all tensors of the element types below, in
models that import the default operator domain only. A case passes where every output has the
recorded dtype and shape, and its values lie within rtol 1e-3 and atol 1e-5.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests

from rekindle import onnx_backend
from rekindle.graph.ir import Array

COUNTED_TYPES = {
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8,
    TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL,
}  # fmt: skip
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}
CONTROL_FLOW = {"If", "Loop", "Scan"}
RTOL, ATOL = 1e-3, 1e-5


@dataclass(frozen=True)
class Case:
    """A counted case: a model and pairs of recorded inputs and outputs."""

    name: str
    model: ModelProto
    records: Sequence[tuple[Sequence[Any], Sequence[Any]]]

    @property
    def operators(self) -> set[str]:
        return {node.op_type for node in self.model.graph.node}

    @property
    def is_float(self) -> bool:
        """All inputs and outputs are float32 or float16, and there is no control flow."""
        return _element_types(self.model) <= FLOATS and not self.operators & CONTROL_FLOW


@dataclass(frozen=True)
class Outcome:
    """What became of a case. `fault` is empty where it passed."""

    fault: str
    host: tuple[str, ...] = ()
    """Operators that ran on the host, with the reason."""

    @property
    def passed(self) -> bool:
        return not self.fault


def counted() -> Iterator[Case]:
    """The counted cases, in the suite's order."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        loaded = load_model_tests(kind="node")
    for case in loaded:
        model = case.model
        if _plain(model) and _element_types(model) <= COUNTED_TYPES:
            yield Case(case.name, model, case.data_sets)


def _plain(model: ModelProto) -> bool:
    infos = (*model.graph.input, *model.graph.output)
    return all(i.type.WhichOneof("value") == "tensor_type" for i in infos) and all(
        entry.domain in ("", "ai.onnx") for entry in model.opset_import
    )


def _element_types(model: ModelProto) -> set[int]:
    return {i.type.tensor_type.elem_type for i in (*model.graph.input, *model.graph.output)}


def run(case: Case, device: str = "OPENCL") -> Outcome:
    """Run a case on every record of it."""
    try:
        prepared = onnx_backend.prepare(case.model, device)
        try:
            for inputs, outputs in case.records:
                got = prepared.run([_array(i) for i in inputs])
                for name, made, recorded in zip(
                    (o.name for o in case.model.graph.output), got, outputs, strict=True
                ):
                    if difference := _difference(made, _array(recorded)):
                        return Outcome(f"output {name}: {difference}")
            placed = prepared.placement.nodes
            return Outcome(
                "", tuple(f"{n.op_type}: {n.reason}" for n in placed if n.where == "host")
            )
        finally:
            prepared.close()
    except Exception as error:  # a case that breaks the program has not passed either
        return Outcome(f"{type(error).__name__}: {error}")


def _array(recorded: Any) -> Array:
    if isinstance(recorded, onnx.TensorProto):
        return numpy_helper.to_array(recorded)
    return np.asarray(recorded)


def _difference(got: Array, expected: Array) -> str:
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return f"{got.dtype}{list(got.shape)}, not {expected.dtype}{list(expected.shape)}"
    if expected.dtype.kind != "f":
        wrong = int(np.count_nonzero(got != expected))
        return f"{wrong} of {expected.size} elements differ" if wrong else ""
    try:
        wide = (a.astype(np.float64) for a in (got, expected))
        np.testing.assert_allclose(*wide, rtol=RTOL, atol=ATOL)
    except AssertionError as error:
        return " ".join(str(error).split())[:300]
    return ""
