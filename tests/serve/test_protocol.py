"""Our descriptors against tritonclient's own, and gRPC calls that no client library makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from serving import LIMIT_S, Running

from rekindle.serve.grpc import schema
from rekindle.serve.grpc.service import SERVICE

PACKAGE = "rekindle.serve.grpc"


def test_the_descriptors_are_those_that_clients_have() -> None:
    theirs = pytest.importorskip("tritonclient.grpc.service_pb2", exc_type=ImportError)
    from tritonclient.grpc import model_config_pb2

    services = theirs.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert {m.name for m in services.methods} == {name for name, *_ in schema.methods(SERVICE)}
    files = [theirs.DESCRIPTOR, model_config_pb2.DESCRIPTOR]
    checked = 0
    for name, request, response, _ in schema.methods(SERVICE):
        other = services.methods_by_name[name]
        for own, their in ((request, other.input_type), (response, other.output_type)):
            if own.DESCRIPTOR.name != "Unsupported":
                checked += same(own.DESCRIPTOR, their)
    assert checked > 100
    numbers = files[1].enum_types_by_name["DataType"].values_by_name
    assert schema.enum_number("inference.DataType", "TYPE_BF16") == numbers["TYPE_BF16"].number


def same(own: Any, theirs: Any) -> int:
    """Every field of ours is theirs: number, type, repetition; how many were compared."""
    count = 0
    for field in own.fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type) == (other.number, other.type), field.full_name
        assert field.is_repeated == other.is_repeated, field.full_name
        count += 1
        if field.message_type is not None and field.message_type is not own:
            count += same(field.message_type, other.message_type)
    return count


def test_the_compiled_descriptors_are_fresh(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools is not installed")
    folder = Path(schema.__file__).parent
    for name in ("inference", "health"):
        made = tmp_path / f"{name}.binpb"
        assert (
            protoc.main(["", f"-I{folder}", f"--descriptor_set_out={made}", f"{name}.proto"]) == 0
        )
        assert made.read_bytes() == (folder / f"{name}.binpb").read_bytes()


@pytest.fixture
def call(start: Callable[..., Running], repository: Path) -> Callable[..., Any]:
    server = start(repository)
    channel = grpc.insecure_channel(server.grpc)
    classes = {name: (request, response) for name, request, response, _ in schema.methods(SERVICE)}

    def unary(name: str, message: Any = None, **fields: Any) -> Any:
        request, response = classes[name]
        stub = channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        return stub(message or request(**fields), timeout=LIMIT_S)

    yield unary
    channel.close()


def infer_request(**changes: Any) -> Any:
    tensor = {
        "name": "x", "datatype": "FP32", "shape": [1, 3], "contents": {"fp32_contents": [1, 2, 3]}
    }  # fmt: skip
    fields = {"model_name": "affine", "inputs": [tensor | changes.pop("tensor", {})]} | changes
    return schema.message("inference.ModelInferRequest")(**fields)


def test_typed_contents(call: Callable[..., Any]) -> None:
    answer = call("ModelInfer", infer_request(id="z"))
    assert (answer.id, answer.model_version) == ("z", "1")
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [3, 5, 7]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tensor": {"contents": {"fp32_contents": [1, 2]}}}, "does not have 2 elements"),
    ({"raw_input_contents": [b"123456789012"]}, "beside raw_input_contents"),
    ({"raw_input_contents": [b"", b""]}, "1 inputs, but 2"),
    ({"tensor": {"datatype": "FP16"}}, "only comes as raw"),
    ({"tensor": {"datatype": "FP"}}, "not known"),
    ({"tensor": {"shape": [-1, 3]}}, "is not a shape"),
    ({"tensor": {"datatype": "INT8", "contents": {"int_contents": [1, 2, 300]}}}, "outside int8"),
    ({"tensor": {"parameters": {"shared_memory_region": {"string_param": "r"}}}}, "shared memory"),
    ({"parameters": {"priority": {"int64_param": -1}}}, "priority = -1"),
    ({"inputs": []}, "input x is missing"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[str(k) for k in range(len(WRONG))])
def test_wrong_messages_are_invalid_arguments(
    call: Callable[..., Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call("ModelInfer", infer_request(**changes))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in caught.value.details()


def test_deadlines_and_what_is_not_built(call: Callable[..., Any]) -> None:
    with pytest.raises(grpc.RpcError) as late:
        call("ModelInfer", infer_request(parameters={"timeout": {"int64_param": 1}}))
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(grpc.RpcError) as missing:
        call("SystemSharedMemoryStatus")
    assert missing.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_standard_health_service(start: Callable[..., Running], repository: Path) -> None:
    server = start(repository)
    ((name, request, response, _),) = schema.methods("grpc.health.v1.Health")
    with grpc.insecure_channel(server.grpc) as channel:
        check = channel.unary_unary(
            f"/grpc.health.v1.Health/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        serving = schema.enum_number("grpc.health.v1.HealthCheckResponse.ServingStatus", "SERVING")
        assert check(request(service=SERVICE), timeout=LIMIT_S).status == serving
        server.plane.draining = True
        assert check(request(), timeout=LIMIT_S).status != serving
        server.plane.draining = False
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            check(request(service="other"), timeout=LIMIT_S)
