"""Whatever comes over the wire is answered in the protocol's words: no 500, no crash."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import Running, affine, mixing, model, put
from test_access import call

from rekindle.serve import Settings
from rekindle.serve.grpc import schema

BOUNDED = settings(
    derandomize=True, deadline=None, database=None, max_examples=60,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
ANSWERS = {200, 400, 404, 405, 413, 422}
CODES = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "PERMISSION_DENIED"}
METHODS = {name: request for name, request, _, streams in schema.methods(
    "inference.GRPCInferenceService") if not streams}  # fmt: skip
TYPES = ("BOOL", "UINT8", "INT32", "INT64", "FP16", "FP32", "FP64", "BF16", "BYTES", "FP33", "")
SIZES = st.one_of(st.integers(0, 4), st.integers(-(2**63), 2**63 - 1))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    from onnx import TensorProto, helper

    root = tmp_path_factory.mktemp("models")
    put(root, "affine", "1", affine())
    put(root, "mixing", "1", mixing())
    node = helper.make_node("Identity", ["x"], ["y"])
    texts = model([node], {"x": ["N", 2]}, {"y": ["N", 2]}, {}, TensorProto.STRING)
    put(root, "texts", "1", texts)
    running = Running(
        Settings(root, http_port=0, grpc_port=0, isolation="thread", provider="onnxruntime",
                 threads=1, max_request_bytes=100_000)
    )  # fmt: skip
    yield running
    healthy = call(running, "/v2/models/affine/infer", GOOD)
    running.stop()
    assert healthy[0] == 200, healthy


GOOD = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner,
                                                                max_size=4),
    max_leaves=12,
)  # fmt: skip
PARAMETERS = st.dictionaries(
    st.sampled_from(["binary_data_size", "binary_data", "binary_data_output", "priority",
                     "timeout", "sequence_id", "classification", "other"]),
    JSON | SIZES, max_size=3,
)  # fmt: skip
TENSOR = st.fixed_dictionaries(
    {"name": st.sampled_from(["x", "y", ""]) | JSON},
    optional={
        "shape": st.lists(SIZES, max_size=4) | st.just([1, 3]) | JSON,
        "datatype": st.sampled_from(TYPES) | JSON,
        "parameters": st.builds(lambda n: {"binary_data_size": n}, SIZES) | PARAMETERS | JSON,
        "data": st.lists(st.floats(width=32) | st.integers(), max_size=6) | JSON,
    },
)
DOCUMENT = st.fixed_dictionaries(
    {"inputs": st.lists(TENSOR, max_size=3) | JSON},
    optional={
        "outputs": st.lists(TENSOR, max_size=2) | JSON,
        "parameters": PARAMETERS | JSON,
        "id": st.text(max_size=8) | JSON,
    },
)
NAMES = st.sampled_from(["affine", "mixing", "texts"])


@BOUNDED
@given(name=NAMES, document=DOCUMENT | JSON, tail=st.binary(max_size=40),
       wrong=st.integers(-3, 3) | st.none())  # fmt: skip
def test_binary_bodies_over_http(
    server: Running, name: str, document: Any, tail: bytes, wrong: int | None
) -> None:
    head = json.dumps(document).encode()
    headers = {} if wrong is None else {
        "Inference_Header_Content_Length": str(len(head) + (wrong if abs(wrong) > 2 else 0))
    }  # fmt: skip
    status, _, text = call(server, f"/v2/models/{name}/infer", head + tail, **headers)
    assert status in ANSWERS, text
    if status != 200:
        assert list(json.loads(text)) == ["error"]


@BOUNDED
@given(name=NAMES, shape=st.lists(st.integers(0, 3), max_size=3), datatype=st.sampled_from(TYPES),
       raw=st.binary(max_size=64))  # fmt: skip
def test_raw_tensors_mean_the_same_over_both(
    server: Running, name: str, shape: list[int], datatype: str, raw: bytes
) -> None:
    tensor = {"name": "x", "shape": shape, "datatype": datatype,
              "parameters": {"binary_data_size": len(raw)}}  # fmt: skip
    head = json.dumps({"inputs": [tensor]}).encode()
    status, _, text = call(
        server, f"/v2/models/{name}/infer", head + raw,
        Inference_Header_Content_Length=str(len(head)),
    )  # fmt: skip
    sent = schema.message("inference.ModelInferRequest")(model_name=name)
    sent.inputs.add(name="x", datatype=datatype, shape=shape)
    sent.raw_input_contents.append(raw)
    code = grpc_call(server, "ModelInfer", sent.SerializeToString())
    assert (status, code) in ((200, "OK"), (400, "INVALID_ARGUMENT")), text


@BOUNDED
@given(method=st.sampled_from(sorted(METHODS)), data=st.binary(max_size=60))
def test_bytes_that_are_no_message_over_grpc(server: Running, method: str, data: bytes) -> None:
    assert grpc_call(server, method, data) in CODES


CONTENTS = ("bool", "int", "int64", "uint", "uint64", "fp32", "fp64", "bytes")


@BOUNDED
@given(
    name=NAMES,
    shapes=st.lists(st.tuples(st.sampled_from(TYPES), st.lists(SIZES, max_size=3)), max_size=3),
    contents=st.lists(st.tuples(st.sampled_from(CONTENTS), st.integers(0, 4)), max_size=3),
    raw=st.lists(st.binary(max_size=30), max_size=3),
    parameter=st.tuples(st.sampled_from(["priority", "timeout", "sequence_id", "other"]), SIZES),
)
def test_messages_that_contradict_themselves_over_grpc(
    server: Running, name: str, shapes: Any, contents: Any, raw: Any, parameter: Any
) -> None:
    sent = schema.message("inference.ModelInferRequest")(model_name=name)
    for k, (datatype, shape) in enumerate(shapes):
        tensor = sent.inputs.add(name="x" if k == 0 else f"x{k}", datatype=datatype, shape=shape)
        for kind, count in contents[k : k + 1]:
            value = b"\xff" if kind == "bytes" else 1
            getattr(tensor.contents, f"{kind}_contents").extend([value] * count)
    sent.raw_input_contents.extend(raw)
    sent.parameters[parameter[0]].int64_param = parameter[1]
    assert grpc_call(server, "ModelInfer", sent.SerializeToString()) in (
        CODES | {"DEADLINE_EXCEEDED"}
    )


@BOUNDED
@given(raw=st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=8)), max_size=3))
def test_strings_whose_lengths_lie(server: Running, raw: list[tuple[int, bytes]]) -> None:
    data = b"".join(struct.pack("<I", length) + text for length, text in raw)
    sent = schema.message("inference.ModelInferRequest")(model_name="texts")
    sent.inputs.add(name="x", datatype="BYTES", shape=[1, 2])
    sent.raw_input_contents.append(data)
    assert grpc_call(server, "ModelInfer", sent.SerializeToString()) in CODES


_channels: dict[str, grpc.Channel] = {}


def grpc_call(server: Running, method: str, data: bytes) -> str:
    """The code of a call with those very bytes."""
    if server.grpc not in _channels:
        _channels[server.grpc] = grpc.insecure_channel(server.grpc)
    ask = _channels[server.grpc].unary_unary(f"/inference.GRPCInferenceService/{method}")
    try:
        ask(data, timeout=60)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


@pytest.mark.slow
def test_the_openapi_document_keeps_its_word(server: Running) -> None:
    """Schemathesis: generated calls of every route are answered as the document says."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    # A request may be refused for more reasons than its schema tells: that is no failure.
    chosen = [
        not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
        checks.response_schema_conformance,
    ]  # fmt: skip
    document = schemathesis.openapi.from_url(f"http://{server.http}/openapi.json")
    seen: set[tuple[str, int]] = set()
    for found in document.get_all_operations():
        operation = found.ok()

        @settings(BOUNDED, max_examples=20)
        @given(case=operation.as_strategy())
        def answered_as_told(case: Any) -> None:
            answer = case.call_and_validate(checks=chosen)
            seen.add((case.operation.path, answer.status_code))

        answered_as_told()
    assert len({path for path, _ in seen}) >= 15
    assert {200, 400, 403, 404} <= {status for _, status in seen}
    assert ("/v2/models/{name}/infer", 400) in seen
