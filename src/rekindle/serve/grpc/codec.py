"""Messages to requests, and responses to messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rekindle._errors import InputError
from rekindle._types import DType
from rekindle.graph.ir import Array, numpy_dtype
from rekindle.serve.grpc.schema import message
from rekindle.serve.grpc.wire import cut
from rekindle.serve.messages import (
    InferRequest,
    InferResponse,
    deadline_of,
    priority_of,
    refuse_unsupported,
)
from rekindle.serve.tensors import checked_shape, datatype_of, dtype_named, from_raw, to_raw

_Request = message("inference.ModelInferRequest")
_RAW_INPUTS: int = _Request.DESCRIPTOR.fields_by_name["raw_input_contents"].number
_SMALL_BYTES = 4096
"""Up to here a copy costs less than looking for what to leave out."""
_Response = message("inference.ModelInferResponse")
_CONTENTS = {
    DType.BOOL: "bool_contents",
    DType.INT8: "int_contents",
    DType.INT16: "int_contents",
    DType.INT32: "int_contents",
    DType.INT64: "int64_contents",
    DType.UINT8: "uint_contents",
    DType.UINT16: "uint_contents",
    DType.UINT32: "uint_contents",
    DType.UINT64: "uint64_contents",
    DType.FLOAT32: "fp32_contents",
    DType.FLOAT64: "fp64_contents",
    DType.STRING: "bytes_contents",
}
"""Where each datatype stands when it does not come raw; half precision only comes raw."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A ModelInferRequest, and its raw_input_contents as views of the bytes that came."""

    message: Any
    raw: Sequence[bytes | memoryview]


def parse(data: bytes) -> Sent:
    """The message in `data`; DecodeError where there is none."""
    rest, raw = cut(data, _RAW_INPUTS) if len(data) > _SMALL_BYTES else (data, [])
    message = _Request.FromString(rest)
    return Sent(message, raw or message.raw_input_contents)


def read_request(given: Sent) -> InferRequest:
    """The request in a message; InputError says what is wrong with it."""
    sent, raw, tensors = given.message, given.raw, given.message.inputs
    if raw and len(raw) != len(tensors):
        raise InputError(f"{len(tensors)} inputs, but {len(raw)} raw_input_contents")
    inputs: dict[str, Array] = {}
    for k, tensor in enumerate(tensors):
        name = tensor.name
        if name in inputs:
            raise InputError(f"input {name} is there twice")
        if tensor.parameters:
            refuse_unsupported(parameters_of(tensor.parameters))
        if raw:
            if tensor.HasField("contents"):
                raise InputError(f"input {name} has contents beside raw_input_contents")
            inputs[name] = from_raw(name, tensor.datatype, tuple(tensor.shape), raw[k])
        else:
            inputs[name] = _from_contents(name, tensor)
    for output in sent.outputs:
        refuse_unsupported(parameters_of(output.parameters))
    parameters = parameters_of(sent.parameters)
    refuse_unsupported(parameters)
    return InferRequest(
        sent.model_name,
        inputs,
        sent.model_version,
        outputs=tuple(output.name for output in sent.outputs),
        id=sent.id,
        parameters=parameters,
        priority=priority_of(parameters),
        deadline=deadline_of(parameters),
    )


def write_response(response: InferResponse) -> Any:
    """A ModelInferResponse with raw contents."""
    made = _Response(model_name=response.model, model_version=response.version, id=response.id)
    for name, array in response.outputs.items():
        made.outputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        made.raw_output_contents.append(to_raw(array))
    return made


def parameters_of(table: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of a map of InferParameter."""
    found = {}
    for key in table:
        kind = table[key].WhichOneof("parameter_choice")
        found[key] = getattr(table[key], kind) if kind else None
    return found


def _from_contents(name: str, tensor: Any) -> Array:
    dtype = dtype_named(tensor.datatype)
    shape = checked_shape(name, tuple(tensor.shape))
    if dtype not in _CONTENTS:
        raise InputError(f"input {name}: {tensor.datatype} only comes as raw_input_contents")
    values = getattr(tensor.contents, _CONTENTS[dtype])
    if dtype is DType.STRING:
        try:
            flat = np.array([v.decode("utf-8") for v in values], object)
        except UnicodeDecodeError:
            raise InputError(f"input {name}: an element is not UTF-8 text") from None
    else:
        flat = _narrowed(name, np.array(values), dtype)
    if flat.size != int(np.prod(shape, dtype=np.int64)):
        raise InputError(
            f"input {name}: shape {list(shape)} does not have {flat.size:,} elements, "
            "which its contents have"
        )
    return flat.reshape(shape)


def _narrowed(name: str, values: Array, dtype: DType) -> Array:
    target = numpy_dtype(dtype)
    if target.kind in "iu" and values.size:
        limits = np.iinfo(target)
        if int(values.min()) < limits.min or int(values.max()) > limits.max:
            raise InputError(f"input {name}: contents hold values outside {dtype}")
    return values.astype(target)
