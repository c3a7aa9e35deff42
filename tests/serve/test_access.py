"""Keys, rates, sizes, TLS: who gets in, and who hears no."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import logging
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import LIMIT_S, Running, affine, put, until

from rekindle._errors import BusyError, NotFoundError, RateLimitError, UsageError
from rekindle.serve import InferRequest, Settings
from rekindle.serve.access import keys, tls
from rekindle.serve.access.exposure import check_exposure
from rekindle.serve.access.inflow import Inflow
from rekindle.serve.access.rates import RateLimits
from rekindle.serve.grpc import gate as grpc_gate
from rekindle.serve.rest.gate import needed

pytest.importorskip("tritonclient", reason="tritonclient is not installed")
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

ROW = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
NAMES = ("asks", "admins", "watches")
Answer = tuple[int, dict[str, str], str]


def call(
    server: Running, path: str, body: Any = None, method: str | None = None, **headers: str
) -> Answer:
    """Status, headers and text of one HTTP request; names of headers have _ for -."""
    host, port = server.http.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT_S)
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method or ("GET" if data is None else "POST"), path, data, sent)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, text


def tensor() -> Any:
    made = over_grpc.InferInput("x", [1, 3], "FP32")
    made.set_data_from_numpy(np.array([[1, 2, 3]], np.float32))
    return [made]


def grpc_code(ask: Callable[..., Any], *args: Any, key: str | None = None, **rest: Any) -> str:
    """OK, or the code of the failure."""
    try:
        ask(*args, headers={"authorization": f"Bearer {key}"} if key else None, **rest)
    except InferenceServerException as error:
        return str(error.status()).rpartition(".")[2]
    return "OK"


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A file with one key per scope, and the keys themselves."""
    made = {scope: keys.make(name, [scope]) for scope, name in zip(("infer", "admin", "metrics"),
                                                                   NAMES, strict=True)}  # fmt: skip
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys.write(path, [key for _, key in made.values()])
    return path, {scope: text for scope, (text, _) in made.items()}


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, ring: tuple[Path, dict[str, str]]
) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("models")
    put(root, "affine", "1", affine())
    settings = Settings(
        root, http_port=0, grpc_port=0, isolation="thread", provider="onnxruntime", threads=1,
        allow_model_control=True, api_keys=ring[0], max_request_bytes=100_000,
    )  # fmt: skip
    running = Running(settings)
    yield running
    running.stop()


NEEDS: list[tuple[str, str, Any, str]] = [
    ("GET", "/v2/health/live", None, "open"),
    ("GET", "/v2/health/ready", None, "open"),
    ("GET", "/v2", None, "look"),
    ("GET", "/v2/models/affine", None, "look"),
    ("GET", "/models", None, "look"),
    ("GET", "/health", None, "look"),
    ("GET", "/openapi.json", None, "look"),
    ("POST", "/v2/repository/index", {}, "look"),
    ("POST", "/v2/models/affine/infer", ROW, "infer"),
    ("POST", "/v2/models/affine/versions/1/infer", ROW, "infer"),
    ("POST", "/predict", {"model": "affine", "inputs": [[1, 2, 3]]}, "infer"),
    ("GET", "/metrics", None, "metrics"),
    ("POST", "/v2/repository/models/affine/load", {}, "admin"),
    ("POST", "/models/load", {"name": "affine"}, "admin"),
    ("DELETE", "/models/affine", None, "admin"),
    ("POST", "/v2/repository/models/affine/load", {}, "admin"),
]


@pytest.mark.parametrize(("method", "path", "body", "need"), NEEDS,
                         ids=[str(k) for k in range(len(NEEDS))])  # fmt: skip
def test_what_each_route_needs(
    guarded: Running, ring: tuple[Path, dict[str, str]], method: str, path: str, body: Any,
    need: str,
) -> None:  # fmt: skip
    status, headers, text = call(guarded, path, body, method)
    assert status == (200 if need == "open" else 401)
    if status == 401:
        assert headers["www-authenticate"].startswith(("Bearer", "Basic"))
        assert "asks for an API key" in json.loads(text)["error"]
    for scope, key in ring[1].items():
        status, _, text = call(guarded, path, body, method, Authorization=f"Bearer {key}")
        may = need in (scope, "look", "open")
        assert status == (200 if may else 403), text
    assert call(guarded, path, body, method, X_API_Key="rk_wrong")[0] == status_of_wrong(need)


def status_of_wrong(need: str) -> int:
    return 200 if need == "open" else 401


def test_no_route_is_forgotten(guarded: Running, ring: tuple[Path, dict[str, str]]) -> None:
    """A new route needs `infer` until a rule says otherwise; control never anything but `admin`."""
    key = ring[1]["infer"]
    document = json.loads(call(guarded, "/openapi.json", Authorization=f"Bearer {key}")[2])
    found = {
        (method.upper(), path): needed(method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert {k for k, need in found.items() if need == "admin"} == {
        ("POST", "/v2/repository/models/{name}/load"),
        ("POST", "/v2/repository/models/{name}/unload"),
        ("POST", "/models/load"),
        ("DELETE", "/models/{name}"),
    }
    opened = {path for (_, path), need in found.items() if need == "open"}
    assert opened == {"/v2/health/live", "/v2/health/ready"}
    assert [path for (_, path), need in found.items() if need == "metrics"] == ["/metrics"]
    for path in ("/v2/health/live/", "//v2/health/live", "/v2/health/live/../../predict"):
        assert needed("GET", path) != "open"


def test_a_key_comes_in_every_usual_way(
    guarded: Running, ring: tuple[Path, dict[str, str]]
) -> None:
    key, path = ring[1]["infer"], "/v2/models/affine/infer"
    basic = base64.b64encode(f"anybody:{key}".encode()).decode()
    for headers in (
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"bearer  {key}"},
        {"X_API_Key": key},
        {"Authorization": f"Basic {basic}"},
    ):
        assert call(guarded, path, ROW, **headers)[0] == 200
    for headers in (
        {"Authorization": key},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic ä"},
        {"Authorization": "Basic !!!"},
        {"X_API_Key": ""},
        {"X_API_Key": key[:-1]},
        {"X_API_Key": key[:-1] + ("A" if key[-1] != "A" else "B")},
        {"X_API_Key": "rk_ä"},
    ):
        assert call(guarded, path, ROW, **headers)[0] == 401


def test_the_same_over_grpc(guarded: Running, ring: tuple[Path, dict[str, str]]) -> None:
    held = ring[1]
    with over_grpc.InferenceServerClient(guarded.grpc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert grpc_code(client.infer, "affine", tensor()) == "UNAUTHENTICATED"
        assert grpc_code(client.infer, "affine", tensor(), key="rk_x") == "UNAUTHENTICATED"
        assert grpc_code(client.infer, "affine", tensor(), key=held["metrics"]) == (
            "PERMISSION_DENIED"
        )
        assert grpc_code(client.infer, "affine", tensor(), key=held["infer"]) == "OK"
        assert client.infer("affine", tensor(), headers={"x-api-key": held["infer"]})
        assert grpc_code(client.load_model, "affine", key=held["infer"]) == "PERMISSION_DENIED"
        assert grpc_code(client.unload_model, "affine") == "UNAUTHENTICATED"
        assert grpc_code(client.load_model, "affine", key=held["admin"]) == "OK"
        assert grpc_code(client.get_model_metadata, "affine") == "UNAUTHENTICATED"
        assert grpc_code(client.get_model_metadata, "affine", key=held["metrics"]) == "OK"
    assert grpc_gate.needed("AnythingNew") == "look"


def test_a_stream_asks_for_a_key_too(guarded: Running, ring: tuple[Path, dict[str, str]]) -> None:
    for headers, good in ((None, False), ({"x-api-key": ring[1]["infer"]}, True)):
        answers: list[Any] = []
        with over_grpc.InferenceServerClient(guarded.grpc) as client:
            client.start_stream(lambda result, error: answers.append(error), headers=headers)  # noqa: B023
            client.async_stream_infer("affine", tensor())
            client.stop_stream()
        assert len(answers) == 1
        assert (answers[0] is None) is good


def test_a_large_request_is_refused_by_both(
    guarded: Running, ring: tuple[Path, dict[str, str]]
) -> None:
    key = ring[1]["infer"]
    status, _, text = call(guarded, "/v2/models/affine/infer", b" " * 100_001, X_API_Key=key)
    assert (status, "larger than 100,000 bytes" in text) == (413, True)
    large = over_grpc.InferInput("x", [1_000_000, 3], "FP32")
    large.set_data_from_numpy(np.zeros((1_000_000, 3), np.float32))
    with over_grpc.InferenceServerClient(guarded.grpc) as client:
        assert grpc_code(client.infer, "affine", [large], key=key) == "RESOURCE_EXHAUSTED"
        assert grpc_code(client.infer, "affine", tensor(), key=key) == "OK"


def test_pages_from_elsewhere_may_not_act(
    guarded: Running, ring: tuple[Path, dict[str, str]]
) -> None:
    key, path = ring[1]["infer"], "/v2/models/affine/infer"
    for origin, status in (
        ("http://evil.example", 403),
        ("null", 403),
        (f"http://{guarded.http}", 200),
    ):
        assert call(guarded, path, ROW, X_API_Key=key, Origin=origin)[0] == status


def test_names_never_become_paths(
    guarded: Running, ring: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    put(tmp_path, "secret", "1", affine())
    key, outside = ring[1]["admin"], f"../{tmp_path.name}/secret"
    names = [outside, str(tmp_path / "secret"), "..", ".", "affine/../affine", "affine\0", "~"]
    with over_grpc.InferenceServerClient(guarded.grpc) as client:
        for name in names:
            assert grpc_code(client.load_model, name, key=key) == "NOT_FOUND"
            assert call(guarded, "/models/load", {"name": name}, X_API_Key=key)[0] == 404
            quoted = "".join(f"%{byte:02x}" for byte in name.encode())
            path = f"/v2/repository/models/{quoted}/load"
            assert call(guarded, path, {}, X_API_Key=key)[0] == 404
        for version in ("..", "../1", "/1"):
            code = grpc_code(client.get_model_metadata, "affine", version, key=key)
            assert code == "NOT_FOUND"


def test_keys_are_in_no_log_and_no_answer(
    guarded: Running, ring: tuple[Path, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path, held = ring
    secrets = [*held.values(), "rk_0123456789abcdef_" + "s" * 43]
    told = []
    with over_grpc.InferenceServerClient(guarded.grpc) as client:
        for key in secrets:
            told.append(call(guarded, "/v2/models/affine/infer", b"{", X_API_Key=key)[2])
            told.append(call(guarded, "/metrics", Authorization=f"Bearer {key}")[2])
            told.append(call(guarded, "/health", Authorization=f"Bearer {key}")[2])
            for scope in ("load_model", "get_model_config"):
                try:
                    getattr(client, scope)("nothing", headers={"x-api-key": key})
                except InferenceServerException as error:
                    told.append(str(error))
    told += [record.getMessage() for record in caplog.records if record.name != "test"]
    told.append(path.read_text())
    for key in secrets:
        for part in (key, key[20:]):
            assert all(part not in text for text in told)


def test_a_key_that_was_taken_back_stops_working(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    (first, one), (second, two) = keys.make("one", ["infer"]), keys.make("two", ["infer"])
    keys.write(path, [one, two])
    ring = keys.KeyFile(path)
    assert [ring.find(first), ring.find(second), ring.find(first + "x")] == [one, two, None]
    keys.write(path, [two])
    ring._looked = 0.0  # a second has passed
    assert [ring.find(first), ring.find(second)] == [None, two]
    path.write_text("broken = ")
    ring._looked = 0.0
    assert ring.find(second) == two


@pytest.mark.parametrize("text", [
    "x", "x = 1", "[a]", '[a]\nid = "1"\nsha256 = "2"\nscopes = ["infer"]\ncreated = 2026-01-01',
])  # fmt: skip
def test_a_malformed_file_of_keys_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError, match=r"keys\.toml"):
        keys.KeyFile(path)


def test_a_file_that_others_may_write_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.toml"
    keys.write(path, [keys.make("one", ["infer"])[1]])
    assert path.stat().st_mode & 0o777 == 0o600
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        with pytest.raises(UsageError, match="chmod 600"):
            keys.KeyFile(path)
    path.chmod(0o644)
    keys.KeyFile(path)
    assert "may be read by everybody" in caplog.text
    with pytest.raises(NotFoundError, match="rekindle keys"):
        keys.KeyFile(tmp_path / "nothing.toml")


def test_one_caller_over_its_rate_does_not_stop_another(
    start: Callable[..., Running], repository: Path, ring: tuple[Path, dict[str, str]]
) -> None:
    limited = start(repository, rate_limit="5/hour", api_keys=ring[0])
    first, second = ring[1]["infer"], ring[1]["admin"]
    path = "/v2/models/affine/infer"
    seen = [call(limited, path, ROW, X_API_Key=first)[0] for _ in range(5)]
    assert seen == [200] * 5
    status, headers, text = call(limited, path, ROW, X_API_Key=first)
    assert status == 429
    assert 3500 < int(headers["retry-after"]) <= 3600
    assert "5 per 1 hour" in json.loads(text)["error"]
    with over_grpc.InferenceServerClient(limited.grpc) as client:
        assert grpc_code(client.infer, "affine", tensor(), key=first) == "RESOURCE_EXHAUSTED"
        assert grpc_code(client.get_model_metadata, "affine", key=second) == "OK"
    assert call(limited, "/v2/health/ready")[0] == 200  # probes are not counted
    wrong = [call(limited, path, ROW, X_API_Key="rk_guess")[0] for _ in range(6)]
    assert wrong == [401] * 5 + [429]


def test_rates() -> None:
    limits = RateLimits("2/minute; 3/hour")
    limits.hit("a")
    limits.hit("b")
    limits.hit("a")
    with pytest.raises(RateLimitError, match="2 per 1 minute") as caught:
        limits.hit("a")
    assert 1 <= caught.value.retry_after_s <= 60
    for text in ("", "fast", "0/second", "10/fortnight", "10", "-1/second"):
        with pytest.raises(UsageError, match="is no rate"):
            RateLimits(text)


def test_who_can_reach_the_server(
    repository: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        check_exposure(Settings(repository, host=host, allow_model_control=True))
    assert caplog.text == ""
    check_exposure(Settings(repository, host="0.0.0.0"))
    assert "everybody may ask" in caplog.text
    with pytest.raises(UsageError, match="could load and unload"):
        check_exposure(Settings(repository, host="::", allow_model_control=True))
    check_exposure(Settings(repository, host="::", allow_model_control=True, api_keys=tmp_path))
    assert "travel unencrypted" in caplog.text


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A throw-away authority, and a certificate and key for this machine."""
    trustme = pytest.importorskip("trustme", reason="trustme is not installed")
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1", "localhost")
    paths = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    authority.cert_pem.write_to_path(paths[0])
    made.private_key_pem.write_to_path(paths[2])
    for blob in made.cert_chain_pems:
        blob.write_to_path(paths[1], append=True)
    return paths


def test_both_protocols_over_tls(
    start: Callable[..., Running], repository: Path, certificate: tuple[Path, Path, Path]
) -> None:
    authority, chain, key = certificate
    server = start(repository, tls_cert=chain, tls_key=key)
    expected = [[3.0, 5.0, 7.0]]
    with over_grpc.InferenceServerClient(
        server.grpc, ssl=True, root_certificates=str(authority)
    ) as client:
        np.testing.assert_array_equal(client.infer("affine", tensor()).as_numpy("y"), expected)
    trusting = ssl.create_default_context(cafile=str(authority))
    with over_http.InferenceServerClient(
        server.http, ssl=True, ssl_context_factory=lambda: trusting
    ) as client:
        asked = over_http.InferInput("x", [1, 3], "FP32")
        asked.set_data_from_numpy(np.array([[1, 2, 3]], np.float32))
        np.testing.assert_array_equal(client.infer("affine", [asked]).as_numpy("y"), expected)
    host, port = server.http.split(":")
    stranger = http.client.HTTPSConnection(
        host, int(port), timeout=LIMIT_S, context=ssl.create_default_context()
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        stranger.request("GET", "/v2/health/live")
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        call(server, "/v2/health/live")  # plain HTTP
    with over_grpc.InferenceServerClient(server.grpc) as client:
        assert grpc_code(client.infer, "affine", tensor(), client_timeout=5.0) != "OK"
    assert server.server.url.startswith("https://")


def test_certificates_that_cannot_be_used_are_named(
    tmp_path: Path, certificate: tuple[Path, Path, Path]
) -> None:
    from cryptography.hazmat.primitives import serialization as pem

    authority, chain, key = certificate
    assert tls.load(None, None) is None
    with pytest.raises(UsageError, match="--tls-key is missing"):
        tls.load(chain, None)
    with pytest.raises(UsageError, match="no such file"):
        tls.load(chain, tmp_path / "key.pem")
    with pytest.raises(UsageError, match="cannot be used for TLS"):
        tls.load(authority, key)
    private = pem.load_pem_private_key(key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        private.private_bytes(
            pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.BestAvailableEncryption(b"x")
        )
    )
    with pytest.raises(UsageError, match="encrypted"):
        tls.load(chain, locked)


def test_grpc_tells_when_to_come_again(start: Callable[..., Running], repository: Path) -> None:
    import grpc

    limited = start(repository, rate_limit="1/hour")
    with grpc.insecure_channel(limited.grpc) as channel:
        metadata = channel.unary_unary("/inference.GRPCInferenceService/ServerMetadata")
        metadata(b"")
        with pytest.raises(grpc.RpcError) as caught:
            metadata(b"")
    trailers = dict(caught.value.trailing_metadata())
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 3500 < int(trailers["retry-after"]) <= 3600
    assert trailers["x-request-id"]


def test_requests_together_have_a_limit() -> None:
    inflow = Inflow(100)
    with inflow.hold(150):  # alone, whatever its size
        with pytest.raises(BusyError, match="150 bytes are in work"), inflow.hold(1):
            pass
        assert inflow.held == 150
    with inflow.hold(60), inflow.hold(40):
        assert inflow.held == 100
    assert inflow.held == 0


def test_a_flood_of_bytes_is_refused(start: Callable[..., Running], repository: Path) -> None:
    server = start(repository, max_pending_bytes=1000)
    host, port = server.http.split(":")
    first = http.client.HTTPConnection(host, int(port), timeout=LIMIT_S)
    body = json.dumps(ROW).encode()
    first.putrequest("POST", "/v2/models/affine/infer")
    first.putheader("Content-Length", str(len(body)))
    first.endheaders(body[:-1])
    large = b" " * 950
    until(lambda: call(server, "/v2/models/affine/infer", large)[0] == 503)  # the first is there
    _, headers, text = call(server, "/v2/models/affine/infer", large)
    assert headers["retry-after"] == "1"
    assert "in work already" in json.loads(text)["error"]
    first.send(body[-1:])
    assert first.getresponse().status == 200
    first.close()
    assert call(server, "/v2/models/affine/infer", ROW)[0] == 200


def test_a_full_queue_refuses_before_it_reads(
    start: Callable[..., Running], repository: Path
) -> None:
    server = start(repository, max_queue=2)
    instance = server.plane.fleet.find("affine").instance
    gate, run = asyncio.Event(), instance._worker.run

    async def held(parts: Any, rows: int) -> Any:
        await gate.wait()
        return await run(parts, rows)

    instance._worker.run = held
    x = np.array([[1, 2, 3]], np.float32)
    asked = []
    for waiting in (0, 1, 2):
        work = server.plane.infer(InferRequest("affine", {"x": x}))
        asked.append(asyncio.run_coroutine_threadsafe(work, server.loop))
        until(lambda: server.plane.in_flight == len(asked) and instance.queued == waiting)  # noqa: B023
    status, headers, text = call(server, "/v2/models/affine/infer", b"no JSON at all")
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(text)["error"].startswith("2 requests wait already")
    with over_grpc.InferenceServerClient(server.grpc) as client:
        assert grpc_code(client.infer, "affine", tensor()) == "UNAVAILABLE"
    assert call(server, "/v2/models/mixing/infer", ROW)[0] == 200  # others are served
    server.loop.call_soon_threadsafe(gate.set)
    for future in asked:
        np.testing.assert_array_equal(future.result(LIMIT_S).outputs["y"], 2 * x + 1)
    assert server.plane.statistics["affine", "1"].durations["fail"].count == 2
