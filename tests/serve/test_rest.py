"""HTTP by hand: bodies that are right, bodies that are wrong, and the routes for people."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image
from serving import LIMIT_S, Running, affine, model, put

from rekindle.hub.names import BUNDLED
from rekindle.serve import Settings
from rekindle.tasks.classify import classify

ROW = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("models")
    put(root, "affine", "1", affine())
    for kind, name in ((TensorProto.INT64, "whole"), (TensorProto.STRING, "texts"),
                       (TensorProto.FLOAT16, "half"), (TensorProto.BOOL, "truth")):  # fmt: skip
        node = helper.make_node("Identity", ["x"], ["y"])
        put(root, name, "1", model([node], {"x": ["N", 2]}, {"y": ["N", 2]}, {}, kind))
    (root / "cifar10-resnet").symlink_to(BUNDLED / "cifar10-resnet")
    settings = Settings(
        root, http_port=0, grpc_port=0, isolation="thread", provider="onnxruntime",
        threads=1, max_request_bytes=100_000, allow_model_control=True,
    )  # fmt: skip
    running = Running(settings)
    yield running
    running.stop()


def call(
    server: Running, path: str, body: Any = None, method: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request; a dictionary is sent as JSON. Names of headers have _ for -."""
    host, port = server.http.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT_S)
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method or ("GET" if data is None else "POST"), path, data, sent)
    answer = connection.getresponse()
    found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    connection.close()
    return found


def ask(server: Running, path: str, body: Any = None, **rest: Any) -> tuple[int, Any]:
    status, _, text = call(server, path, body, **rest)
    return status, json.loads(text) if text else None


def infer(server: Running, name: str, *tensors: dict[str, Any], **rest: Any) -> tuple[int, Any]:
    return ask(server, f"/v2/models/{name}/infer", {"inputs": list(tensors)} | rest)


def test_json_in_and_out(server: Running) -> None:
    status, answer = infer(server, "affine", ROW, id="a1")
    assert status == 200
    assert answer == {
        "model_name": "affine", "model_version": "1", "id": "a1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [3.0, 5.0, 7.0]}],
    }  # fmt: skip
    nested = ROW | {"shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6.5]]}
    assert infer(server, "affine", nested)[1]["outputs"][0]["data"] == [3, 5, 7, 9, 11, 14]


@pytest.mark.parametrize(
    ("name", "datatype", "values"),
    [
        ("whole", "INT64", [-(2**63), 2**63 - 1]),
        ("texts", "BYTES", ["año", ""]),
        ("half", "FP16", [0.5, 65504.0]),
        ("truth", "BOOL", [True, False]),
    ],
)
def test_every_kind_of_value(server: Running, name: str, datatype: str, values: list[Any]) -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": datatype, "data": values}
    status, answer = infer(server, name, tensor)
    assert (status, answer["outputs"][0]["data"]) == (200, values)
    assert answer["outputs"][0]["datatype"] == datatype


def test_binary_tensors_and_strings(server: Running) -> None:
    words = ["año", "b"]
    blob = b"".join(struct.pack("<I", len(w.encode())) + w.encode() for w in words)
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [1, 2], "datatype": "BYTES",
                 "parameters": {"binary_data_size": len(blob)}}
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()  # fmt: skip
    status, headers, body = call(
        server, "/v2/models/texts/infer", head + blob,
        Inference_Header_Content_Length=str(len(head)),
    )  # fmt: skip
    assert status == 200
    length = int(headers["inference-header-content-length"])
    assert body[length:] == blob
    assert json.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": len(blob)}


def test_no_number_is_null(server: Running) -> None:
    raw = np.array([np.nan, np.inf, 1], np.float32).tobytes()
    tensor = ROW | {"parameters": {"binary_data_size": 12}}
    del tensor["data"]
    head = json.dumps({"inputs": [tensor]}).encode()
    status, _, body = call(
        server, "/v2/models/affine/infer", head + raw,
        Inference_Header_Content_Length=str(len(head)),
    )  # fmt: skip
    assert (status, json.loads(body)["outputs"][0]["data"]) == (200, [None, None, 3.0])


WRONG_TENSORS: list[tuple[dict[str, Any], str]] = [
    ({"data": [1, 2]}, "has 3 elements, data has 2"),
    ({"data": [[1, 2], [3]]}, "neither flat nor nested evenly"),
    ({"data": ["a", "b", "c"]}, "holds what is no FP32"),
    ({"data": [1, None, 2]}, "holds what is no FP32"),
    ({"data": [1, 2, 1e39]}, "too large for FP32"),
    ({"data": {}}, "data has 1"),
    ({"datatype": "FP33"}, "datatype 'FP33' is not known"),
    ({"datatype": "INT32"}, r"expected x: float32\[N, 3\]"),
    ({"datatype": None}, "no datatype"),
    ({"shape": [1, -3]}, "is not a shape"),
    ({"shape": [1, True]}, "is not a shape"),
    ({"shape": "13"}, "is not a shape"),
    ({"shape": [2**40, 2**40]}, "is not a shape"),
    ({"shape": [0, 2**62], "data": []}, "is not a shape"),
    ({"shape": [3, 1]}, r"expected x: float32\[N, 3\]"),
    ({"shape": [0, 3], "data": []}, "no rows"),
    ({"name": ""}, "no name"),
    ({"name": "z"}, "input x is missing"),
    ({"parameters": {"binary_data_size": 12}}, "0 bytes are left"),
    ({"parameters": {"shared_memory_region": "r"}}, "shared memory"),
    ({"parameters": 3}, "parameters is no object"),
]


@pytest.mark.parametrize(
    ("change", "message"), WRONG_TENSORS, ids=[str(k) for k in range(len(WRONG_TENSORS))]
)
def test_wrong_tensors_are_named(server: Running, change: dict[str, Any], message: str) -> None:
    status, answer = infer(server, "affine", ROW | change)
    assert status == 400
    assert list(answer) == ["error"]
    assert re.search(message, answer["error"]), answer["error"]


def test_whole_numbers_are_not_rounded_or_cut(server: Running) -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "INT64"}
    assert infer(server, "whole", tensor | {"data": [1, 2.5]})[0] == 400
    assert infer(server, "whole", tensor | {"data": [1, 2**64]})[0] == 400
    assert infer(server, "whole", tensor | {"data": [1, 2**200]})[0] == 400
    small = {"name": "x", "shape": [1, 2], "datatype": "INT8", "data": [1, 300]}
    assert "outside INT8" in infer(server, "whole", small)[1]["error"]


WRONG_BODIES: list[tuple[Any, str]] = [
    (b"", "not JSON"),
    (b"{", "not JSON"),
    (b"[1]", "no JSON object"),
    (b"\xff\xfe", "not JSON"),
    (b"[" * 50_000, "not JSON"),
    ({}, "no list of objects 'inputs'"),
    ({"inputs": {}}, "no list of objects 'inputs'"),
    ({"inputs": [1]}, "no list of objects 'inputs'"),
    ({"inputs": []}, "input x is missing"),
    ({"inputs": [ROW, ROW]}, "there twice"),
    ({"inputs": [ROW, ROW | {"name": "z"}]}, "unknown input z"),
    ({"inputs": [ROW], "outputs": [{"name": "z"}]}, "unknown output z"),
    ({"inputs": [ROW], "outputs": 3}, "no list of objects 'outputs'"),
    ({"inputs": [ROW], "id": 7}, "is no text"),
    ({"inputs": [ROW], "parameters": {"priority": 10}}, "priority = 10"),
    ({"inputs": [ROW], "parameters": {"timeout": "soon"}}, "timeout = 'soon'"),
    ({"inputs": [ROW], "parameters": {"sequence_id": 5}}, "sequences"),
]


@pytest.mark.parametrize(
    ("body", "message"), WRONG_BODIES, ids=[str(k) for k in range(len(WRONG_BODIES))]
)
def test_wrong_bodies_are_named(server: Running, body: Any, message: str) -> None:
    status, answer = ask(server, "/v2/models/affine/infer", body, method="POST")
    assert (status, list(answer)) == (400, ["error"])
    assert message in answer["error"]


@pytest.mark.parametrize("length", ["-1", "x", "9" * 30, "100000", "1"])
def test_wrong_header_lengths_are_named(server: Running, length: str) -> None:
    body = json.dumps({"inputs": [ROW]}).encode()
    path = "/v2/models/affine/infer"
    status, answer = ask(server, path, body, Inference_Header_Content_Length=length)
    assert status == 400
    assert "error" in answer


def test_large_and_compressed_bodies(server: Running) -> None:
    path = "/v2/models/affine/infer"
    body = json.dumps({"inputs": [ROW]}).encode()
    assert ask(server, path, gzip.compress(body), Content_Encoding="gzip")[0] == 200
    for data, encoding, status in (
        (b" " * 100_001, "identity", 413),
        (gzip.compress(b" " * 10_000_000), "gzip", 413),  # small, but not when unpacked
        (gzip.compress(body)[:-9], "gzip", 400),
        (body, "gzip", 400),
        (body, "br", 400),
    ):
        got, answer = ask(server, path, data, Content_Encoding=encoding)
        assert (got, list(answer)) == (status, ["error"])


def test_paths_that_are_not_there(server: Running) -> None:
    for path, status in (
        ("/v2/models/nothing", 404),
        ("/v2/models/affine/versions/7", 404),
        ("/v2/models/nothing/ready", 404),
        ("/v2/models/../../etc/passwd", 404),
        ("/v2/models/..%2f..%2fetc/ready", 404),
        ("/nothing", 404),
        ("/predict", 405),
    ):
        got, answer = ask(server, path)
        assert (got, list(answer)) == (status, ["error"])
    assert ask(server, "/v2/repository/models/..%2fsecret/load", {})[0] == 404
    assert ask(server, "/models/load", {"name": "../secret"})[0] == 404


def test_a_deadline_that_has_passed_is_504(server: Running) -> None:
    status, answer = infer(server, "affine", ROW, parameters={"timeout": 1})
    assert (status, "deadline" in answer["error"]) == (504, True)


def test_a_draining_server_says_so(server: Running) -> None:
    server.plane.draining = True
    try:
        status, headers, body = call(server, "/v2/models/affine/infer", {"inputs": [ROW]})
        assert (status, headers["retry-after"]) == (503, "1")
        assert "shutting down" in json.loads(body)["error"]
        assert ask(server, "/v2/health/ready")[0] == 503
        assert ask(server, "/v2/health/live") == (200, {"live": True})
    finally:
        server.plane.draining = False


def test_predict(server: Running) -> None:
    status, answer = ask(server, "/predict", {"model": "affine", "inputs": [[1, 2, 3]]})
    assert (status, answer["outputs"]) == (200, {"y": [[3.0, 5.0, 7.0]]})
    assert (answer["model"], answer["version"]) == ("affine", "1")
    named = {"model": "texts", "inputs": {"x": [["a", "b"], ["c", "d"]]}}
    assert ask(server, "/predict", named)[1]["outputs"]["y"] == [["a", "b"], ["c", "d"]]
    for body, status, message in (
        ({"inputs": [[1, 2, 3]]}, 404, "names no model"),
        ({"model": "affine"}, 400, "no object of nested lists"),
        ({"model": "affine", "inputs": {"z": [1]}}, 400, "input x is missing"),
        ({"model": "affine", "inputs": {"x": [[1, 2, 3]], "z": [1]}}, 400, "unknown input z"),
        ({"model": "affine", "inputs": [[1, 2], [3]]}, 400, "nested evenly"),
        ({"model": "affine", "inputs": [1, 2, 3]}, 400, "expected x: float32[N, 3]"),
        ({"model": 3, "inputs": [1]}, 400, "model is no text"),
    ):
        got, answer = ask(server, "/predict", body)
        assert (got, message in answer["error"]) == (status, True), answer


def form(photo: bytes | None, **fields: str) -> tuple[bytes, str]:
    """A multipart body and its content type."""
    parts = [f'--B\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode()
             for k, v in fields.items()]  # fmt: skip
    if photo is not None:
        head = b'--B\r\nContent-Disposition: form-data; name="photo"; filename="p.png"\r\n\r\n'
        parts.append(head + photo + b"\r\n")
    return b"".join(parts) + b"--B--\r\n", "multipart/form-data; boundary=B"


def test_classify_names_what_the_command_line_names(server: Running, tmp_path: Path) -> None:
    picture = Image.effect_noise((48, 40), 80).convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    (tmp_path / "p.png").write_bytes(buffer.getvalue())
    (expected,) = classify(tmp_path / "p.png", provider="onnxruntime", top=3)
    body, kind = form(buffer.getvalue(), top="3")
    status, answer = ask(server, "/classify", body, Content_Type=kind)
    assert (status, answer["model"]) == (200, "cifar10-resnet")
    assert [x["name"] for x in answer["labels"]] == [x.name for x in expected.labels]
    scores = [x["score"] for x in answer["labels"]]
    np.testing.assert_allclose(scores, [x.score for x in expected.labels], rtol=1e-4)
    for sent, status, message in (
        (form(None), 400, "no photo"),
        (form(b"no picture"), 400, "picture"),
        (form(buffer.getvalue(), top="many"), 400, "top = 'many'"),
        (form(buffer.getvalue(), model="affine"), 422, "has no card"),
        (form(buffer.getvalue(), model="nothing"), 404, "no model 'nothing'"),
        ((b"--B\r\nbroken", "multipart/form-data; boundary=B"), 400, ""),
        ((b"x", "text/plain"), 400, "no photo"),
    ):
        got, answer = ask(server, "/classify", sent[0], Content_Type=sent[1])
        assert (got, message in answer["error"]) == (status, True), answer


def test_models_and_health(server: Running) -> None:
    infer(server, "affine", ROW)
    rows = {row["name"]: row for row in ask(server, "/models")[1]["models"]}
    assert rows["affine"]["inputs"] == ["x: float32[N, 3]"]
    assert (rows["affine"]["state"], rows["cifar10-resnet"]["task"]) == ("READY", "classify")
    status, health = ask(server, "/health")
    assert (status, health["status"], health["ready"]) == (200, "ok", True)
    assert ask(server, "/models/half", method="DELETE") == (
        200, {"name": "half", "state": "UNLOADED"}
    )  # fmt: skip
    assert ask(server, "/v2/models/half/ready")[0] == 404
    assert ask(server, "/models/load", {"name": "half"})[1]["models"][0]["loaded"]
    assert ask(server, "/v2/models/half/ready")[0] == 200
    for body in ({}, {"name": 3}):
        assert ask(server, "/models/load", body)[0] == 400


def test_the_openapi_document_has_every_route(server: Running) -> None:
    status, document = ask(server, "/openapi.json")
    assert status == 200
    for path in (
        "/v2", "/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer",
        "/v2/repository/models/{name}/load", "/predict", "/classify", "/health", "/metrics",
    ):  # fmt: skip
        assert path in document["paths"]
    assert "/v2/trace/setting" not in document["paths"]
