"""tritonclient, unmodified: each of its calls, over HTTP and gRPC."""

from __future__ import annotations

import queue
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from serving import LIMIT_S, Running, affine, mixing, put

from rekindle.hub.names import BUNDLED
from rekindle.runtime import open_session
from rekindle.serve import Settings

pytest.importorskip("tritonclient", reason="tritonclient is not installed")
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("models")
    put(root, "affine", "1", affine(7.0))
    put(root, "affine", "2", affine(2.0))
    put(root, "mixing", "1", mixing())
    (root / "affine" / "serve.toml").write_text("versions = 2\n")
    settings = Settings(
        root, http_port=0, grpc_port=0, isolation="thread", provider="onnxruntime",
        threads=1, allow_model_control=True,
    )  # fmt: skip
    running = Running(settings)
    yield running
    running.stop()


@pytest.fixture(params=[over_http, over_grpc], ids=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def client(server: Running, protocol: ModuleType) -> Iterator[Any]:
    address = server.http if protocol is over_http else server.grpc
    client = protocol.InferenceServerClient(address)
    yield client
    client.close()


def plain(answer: Any) -> Any:
    """An answer as dictionaries, whichever protocol it came by."""
    if isinstance(answer, dict | list):
        return answer
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(answer, preserving_proto_field_name=True)


def one_input(protocol: ModuleType, x: Any = X, name: str = "x", **options: Any) -> list[Any]:
    made = protocol.InferInput(name, list(x.shape), "FP32")
    made.set_data_from_numpy(x, **options)
    return [made]


def test_health(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("affine")
    assert client.is_model_ready("affine", "1")


def test_metadata(client: Any) -> None:
    about = plain(client.get_server_metadata())
    assert about["name"] == "rekindle"
    assert "model_repository" in about["extensions"]
    model = plain(client.get_model_metadata("affine"))
    assert model["versions"] == ["1", "2"]
    assert model["platform"] == "onnxruntime_onnx"
    (tensor,) = model["inputs"]
    assert (tensor["name"], tensor["datatype"]) == ("x", "FP32")
    assert [int(d) for d in tensor["shape"]] == [-1, 3]


def test_configuration(client: Any) -> None:
    answer = plain(client.get_model_config("affine", "2"))
    config = answer.get("config", answer)
    assert config["max_batch_size"] == 16
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert [int(d) for d in config["input"][0]["dims"]] == [3]
    assert int(config["dynamic_batching"]["max_queue_delay_microseconds"]) == 2000
    other = plain(client.get_model_config("mixing"))
    assert other.get("config", other).get("max_batch_size", 0) == 0


def test_infer(client: Any, protocol: ModuleType) -> None:
    result = client.infer("affine", one_input(protocol), request_id="seven", priority=1)
    np.testing.assert_array_equal(result.as_numpy("y"), 2 * X + 1)
    response = plain(result.get_response())
    assert (response["id"], response["model_name"]) == ("seven", "affine")
    assert response["model_version"] == "2"
    older = client.infer("affine", one_input(protocol), model_version="1")
    np.testing.assert_array_equal(older.as_numpy("y"), 7 * X + 1)
    outputs = [protocol.InferRequestedOutput("y")]
    again = client.infer("mixing", one_input(protocol), outputs=outputs, timeout=10_000_000)
    np.testing.assert_allclose(again.as_numpy("y"), X - X.mean(axis=0))


@pytest.mark.parametrize("sent", [True, False], ids=["binary-in", "json-in"])
@pytest.mark.parametrize("got", [True, False], ids=["binary-out", "json-out"])
def test_json_and_binary(server: Running, sent: bool, got: bool) -> None:
    with over_http.InferenceServerClient(server.http) as client:
        outputs = [over_http.InferRequestedOutput("y", binary_data=got)]
        inputs = one_input(over_http, binary_data=sent)
        result = client.infer("affine", inputs, outputs=outputs)
        np.testing.assert_array_equal(result.as_numpy("y"), 2 * X + 1)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(server: Running, algorithm: str) -> None:
    with over_http.InferenceServerClient(server.http) as client:
        result = client.infer(
            "affine",
            one_input(over_http),
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        np.testing.assert_array_equal(result.as_numpy("y"), 2 * X + 1)
    with over_grpc.InferenceServerClient(server.grpc) as client:
        inputs = one_input(over_grpc)
        result = client.infer("affine", inputs, compression_algorithm=algorithm)
        np.testing.assert_array_equal(result.as_numpy("y"), 2 * X + 1)


def test_asynchronous(server: Running) -> None:
    with over_http.InferenceServerClient(server.http, concurrency=4) as client:
        pending = [client.async_infer("affine", one_input(over_http, X + k)) for k in range(4)]
        for k, request in enumerate(pending):
            np.testing.assert_array_equal(request.get_result().as_numpy("y"), 2 * (X + k) + 1)
    answers: queue.Queue[Any] = queue.Queue()
    with over_grpc.InferenceServerClient(server.grpc) as client:
        for k in range(4):
            client.async_infer(
                "affine",
                one_input(over_grpc, X + k),
                lambda result, error: answers.put((result, error)),
                request_id=str(k),
            )
        for _ in range(4):
            result, error = answers.get(timeout=LIMIT_S)
            assert error is None
            k = int(result.get_response().id)
            np.testing.assert_array_equal(result.as_numpy("y"), 2 * (X + k) + 1)


def test_stream(server: Running) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with over_grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for k in range(5):
            client.async_stream_infer("affine", one_input(over_grpc, X + k), request_id=str(k))
        client.async_stream_infer("nothing", one_input(over_grpc))
        for k in range(5):
            result, error = answers.get(timeout=LIMIT_S)
            assert error is None
            assert result.get_response().id == str(k)
            np.testing.assert_array_equal(result.as_numpy("y"), 2 * (X + k) + 1)
        result, error = answers.get(timeout=LIMIT_S)
        assert result is None
        assert "no model 'nothing'" in str(error)
        client.stop_stream()


def test_statistics(client: Any, protocol: ModuleType) -> None:
    def counts() -> dict[str, int]:
        (row,) = plain(client.get_inference_statistics("affine", "1"))["model_stats"]
        return {key: int(row.get(key, 0)) for key in ("inference_count", "execution_count")} | {
            "success": int(row["inference_stats"]["success"].get("count", 0))
        }

    before = counts()
    client.infer("affine", one_input(protocol), model_version="1")
    after = counts()
    assert {key: after[key] - before[key] for key in after} == {
        "inference_count": 2,
        "execution_count": 1,
        "success": 1,
    }
    names = {row["name"] for row in plain(client.get_inference_statistics())["model_stats"]}
    assert names == {"affine", "mixing"}


def test_repository(client: Any, protocol: ModuleType, server: Running) -> None:
    def states() -> dict[tuple[str, str], str]:
        index = plain(client.get_model_repository_index())
        rows = index if isinstance(index, list) else index["models"]
        return {(row["name"], row.get("version", "")): row["state"] for row in rows}

    assert states()["mixing", "1"] == "READY"
    client.unload_model("mixing")
    assert states() == {
        ("affine", "1"): "READY",
        ("affine", "2"): "READY",
        ("mixing", ""): "UNAVAILABLE",
    }
    with pytest.raises(InferenceServerException, match="unloaded"):
        client.infer("mixing", one_input(protocol))
    client.load_model("mixing", config='{"max_batch_size": 0}')
    assert client.is_model_ready("mixing")
    result = client.infer("mixing", one_input(protocol))
    np.testing.assert_allclose(result.as_numpy("y"), X - X.mean(axis=0))
    with pytest.raises(InferenceServerException, match="not known"):
        client.load_model("mixing", config="{}", files={"file:1/model.onnx": affine()})
    assert server.plane.fleet.find("mixing").ready


def test_errors_are_the_clients_exceptions(client: Any, protocol: ModuleType) -> None:
    expected = [
        (("nothing", one_input(protocol)), {}, "no model 'nothing'", "404 StatusCode.NOT_FOUND"),
        (("affine", one_input(protocol)), {"model_version": "9"}, "served: 1, 2",
         "404 StatusCode.NOT_FOUND"),
        (("affine", one_input(protocol, name="z")), {}, "input x is missing",
         "400 StatusCode.INVALID_ARGUMENT"),
        (("affine", one_input(protocol, X[:, :2].copy())), {}, r"expected x: float32\[N, 3\]",
         "400 StatusCode.INVALID_ARGUMENT"),
        (("affine", one_input(protocol, np.zeros((17, 3), np.float32))), {}, "17 rows",
         "400 StatusCode.INVALID_ARGUMENT"),
        (("affine", one_input(protocol)), {"sequence_id": 3}, "sequences",
         "400 StatusCode.INVALID_ARGUMENT"),
    ]  # fmt: skip
    for arguments, options, message, statuses in expected:
        with pytest.raises(InferenceServerException, match=message) as caught:
            client.infer(*arguments, **options)
        assert str(caught.value.status()) in statuses.split()
    outputs = [protocol.InferRequestedOutput("nope")]
    with pytest.raises(InferenceServerException, match="unknown output nope"):
        client.infer("affine", one_input(protocol), outputs=outputs)


def test_what_is_not_built_says_so(client: Any, protocol: ModuleType) -> None:
    calls: list[Callable[[], Any]] = [
        client.get_system_shared_memory_status,
        client.get_cuda_shared_memory_status,
        client.get_trace_settings,
        client.get_log_settings,
        lambda: client.register_system_shared_memory("a", "/a", 8),
        lambda: client.unregister_system_shared_memory("a"),
    ]
    for call in calls:
        with pytest.raises(InferenceServerException, match="does not have"):
            call()


def test_model_control_is_off_unless_allowed(
    start: Callable[..., Running], repository: Path, protocol: ModuleType
) -> None:
    server = start(repository)
    address = server.http if protocol is over_http else server.grpc
    with protocol.InferenceServerClient(address) as client:
        for call in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException, match="--allow-model-control"):
                call("affine")
        assert "model_repository" not in plain(client.get_server_metadata())["extensions"]
        assert client.is_model_ready("affine")


def test_the_example_in_the_documents_runs(
    start: Callable[..., Running], capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parents[2] / "docs" / "pages" / "serving.md"
    (code,) = re.findall(r"^```py\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    server = start(BUNDLED)
    exec(compile(code.replace("127.0.0.1:8001", server.grpc), page.name, "exec"), {})
    with open_session("cifar10-resnet", provider="onnxruntime") as session:
        expected = session.run({"image": np.zeros((1, 3, 32, 32), np.float32)})["logits"]
    shown = np.array(capsys.readouterr().out.strip(" []\n").split(), float)
    np.testing.assert_allclose(shown, expected[0], rtol=1e-3, atol=1e-5)
