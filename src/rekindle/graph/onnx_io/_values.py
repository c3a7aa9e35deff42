"""Types that an ONNX file declares for its values."""

from __future__ import annotations

from onnx import GraphProto, TensorShapeProto, TypeProto, ValueInfoProto

from rekindle._types import Dim
from rekindle.graph.ir import Value
from rekindle.graph.onnx_io._tensors import dtype_of_element, text


class DeclaredTypes:
    """Reads declared types; every unnamed dynamic dimension gets a name of its own."""

    def __init__(self, proto: GraphProto) -> None:
        infos = (*proto.input, *proto.output, *proto.value_info)
        self._taken = {
            text(d.dim_param, "a dimension's name")
            for info in infos
            for d in info.type.tensor_type.shape.dim
        }

    def of(self, info: ValueInfoProto) -> Value | None:
        """The type of one value; None where the file says nothing, or nothing about a tensor."""
        tensor = info.type.tensor_type
        if info.type.WhichOneof("value") != "tensor_type" or not tensor.elem_type:
            return None
        name = text(info.name, "a value's name")
        dtype = dtype_of_element(tensor.elem_type, f"value {name!r}")
        if not tensor.HasField("shape"):
            return Value(name, dtype, None)
        dims = (self._dim(name, axis, d) for axis, d in enumerate(tensor.shape.dim))
        return Value(name, dtype, tuple(dims))

    def _dim(self, name: str, axis: int, dim: TensorShapeProto.Dimension) -> Dim:
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            return dim.dim_value
        if dim.HasField("dim_param") and dim.dim_param.strip():
            return text(dim.dim_param, "a dimension's name")
        fresh = f"{name}_{axis}"
        while fresh in self._taken:
            fresh += "_"
        self._taken.add(fresh)
        return fresh


def describe(proto: TypeProto) -> str:
    """What a type that is no tensor is, in words: "a sequence"."""
    kind = proto.WhichOneof("value")
    return "a " + kind.removesuffix("_type").replace("_", " ") if kind else "of no stated type"
