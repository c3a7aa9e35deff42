"""Our client against our server, over REST and gRPC, and against what is no model server."""

from __future__ import annotations

import http.server
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import Running, affine, mixing, put

from rekindle import _errors
from rekindle._types import DType, TensorSpec
from rekindle.serve.access import keys as ring
from rekindle.serve.client import Client, connect
from rekindle.serve.client.answers import failure
from rekindle.serve.client.specs import specs_of

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
SECRET = "rk-0123456789"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    from rekindle.serve import Settings

    root = tmp_path_factory.mktemp("models")
    put(root, "affine", "1", affine(7.0))
    put(root, "affine", "2", affine(2.0))
    put(root, "mixing", "1", mixing())
    (root / "affine" / "serve.toml").write_text("versions = 2\n")
    running = Running(Settings(
        root, http_port=0, grpc_port=0, isolation="thread", provider="onnxruntime", threads=1,
        allow_model_control=True,
    ))  # fmt: skip
    yield running
    running.stop()


@pytest.fixture(params=["http", "grpc"])
def client(server: Running, request: pytest.FixtureRequest) -> Iterator[Client]:
    address = server.http if request.param == "http" else server.grpc
    client = connect(f"{request.param}://{address}")
    yield client
    client.close()


def test_what_a_server_tells(client: Client) -> None:
    assert client.health()["ready"] is True
    states = {(m["name"], m["version"]): m["state"] for m in client.models()}
    assert states["affine", "2"] == "READY"
    assert specs_of(client.metadata("affine")["inputs"]) == (
        TensorSpec("x", DType.FLOAT32, ("N", 3)),
    )


@pytest.mark.parametrize(("version", "weight"), [("", 2.0), ("1", 7.0)])
def test_outputs_are_the_models(client: Client, version: str, weight: float) -> None:
    ran, outputs = client.infer("affine", {"x": X}, version)
    assert ran == version or (ran == "2" and not version)
    np.testing.assert_allclose(outputs["y"], weight * X + 1)


def test_a_model_goes_and_comes_back(client: Client) -> None:
    client.unload("mixing")
    with pytest.raises(_errors.NotFoundError, match="is unloaded"):
        client.infer("mixing", {"x": X})
    client.load("mixing")
    _, outputs = client.infer("mixing", {"x": X})
    np.testing.assert_allclose(outputs["y"], X - X.mean(axis=0))


def test_the_servers_own_message_arrives(client: Client) -> None:
    with pytest.raises(_errors.NotFoundError, match=r"answered 404: there is no model 'nothing'"):
        client.infer("nothing", {"x": X})
    with pytest.raises(_errors.InputError, match=r"expected x: float32\[N, 3\]"):
        client.infer("affine", {"x": X[:, :2]})
    with pytest.raises(_errors.NotFoundError, match="has no version '9'"):
        client.metadata("affine", "9")


def test_names_cannot_leave_their_place_in_the_path(client: Client) -> None:
    # Unquoted it would be the route /v2/health/live, which answers 200.
    with pytest.raises(_errors.NotFoundError, match="answered 404"):
        client.metadata("../health/live")


def test_photos_do_not_go_over_grpc(server: Running) -> None:
    with pytest.raises(_errors.UsageError, match="photos go over REST"):
        connect(f"grpc://{server.grpc}").classify(b"", {})


@pytest.mark.parametrize("scheme", ["http", "https", "grpc", "grpcs"])
def test_nobody_there(scheme: str) -> None:
    with socket.socket() as taken:  # bound and not listening: refused, and nobody else's
        taken.bind(("127.0.0.1", 0))
        url = f"{scheme}://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(_errors.UnreachableError, match="no server answers at") as found:
            connect(url).health()
    assert "rekindle serve" in str(found.value)


def test_the_other_protocols_port(server: Running) -> None:
    with pytest.raises(_errors.UnreachableError, match="does not speak"):
        connect(f"http://{server.grpc}").models()
    with pytest.raises(_errors.UnreachableError, match="REST has another"):
        connect(f"grpc://{server.http}").models()
    with pytest.raises(_errors.UnreachableError, match="no trusted connection"):
        connect(f"https://{server.http}").models()


@contextmanager
def answering(status: int, body: bytes, *, seen: list[Any] | None = None) -> Iterator[str]:
    """A server that says the same to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if seen is not None:
                seen.append(self.headers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{other.server_port}"
        other.shutdown()


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"{}", b'{"outputs": [{"name": "y"}]}'])
def test_what_is_no_model_server_gives_no_traceback(body: bytes) -> None:
    with answering(200, body) as url:
        client = connect(url)
        with pytest.raises(_errors.UnreachableError, match="does not speak"):
            client.infer("affine", {"x": X})


@pytest.mark.parametrize("status", [302, 500, 502])
def test_failures_without_a_message(status: int) -> None:
    with answering(status, b"<html>") as url, pytest.raises(
        _errors.ServerError, match=f"answered {status}: no message"
    ):  # fmt: skip
        connect(url).models()


@pytest.mark.parametrize("call", [lambda c: c.health(), lambda c: c.models()])
def test_a_silent_server_is_not_waited_for(call: Callable[[Client], Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05)
        with pytest.raises(_errors.DeadlineError, match="did not answer within"):
            call(client)


def test_the_key_is_sent_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []
    with answering(401, b'{"error": "who are you?"}', seen=seen) as url:
        client = connect(url, api_key=SECRET)
        with pytest.raises(_errors.RekindleError) as found:
            client.models()
    assert [headers["Authorization"] for headers in seen] == [f"Bearer {SECRET}"]
    assert "who are you?" in str(found.value)
    assert "REKINDLE_API_KEY" in str(found.value)
    assert SECRET not in f"{found.value} {client.endpoint!r} {vars(client.endpoint)['host']}"
    with caplog.at_level(logging.WARNING, "rekindle"):
        connect("http://models.example", api_key=SECRET)
        connect("https://models.example", api_key=SECRET)
        connect("http://localhost", api_key=SECRET)
    assert caplog.text.count("travels unencrypted to http://models.example:8000") == 1
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "url", ["ftp://host", "http://", "http://user:pass@host", "http://host:port", "http://host/v2"]
)
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(_errors.UsageError, match="URL cannot be used") as found:
        connect(url)
    assert "pass" not in str(found.value)


@pytest.mark.parametrize("key", ["", "a\nb", "llave\u00f1"])
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(_errors.UsageError, match="no key has"):
        connect(api_key=key)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path, str]]:
    """A server with TLS and keys; its authority, and a key that may only ask."""
    from rekindle.serve import Settings

    trustme = pytest.importorskip("trustme", reason="trustme is not installed")
    folder = tmp_path_factory.mktemp("guarded")
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    made.private_key_pem.write_to_path(folder / "key.pem")
    for blob in made.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    text, key = ring.make("ranger", ("infer",))
    ring.write(folder / "keys.toml", [key])
    put(folder / "models", "affine", "1", affine())
    running = Running(Settings(
        folder / "models", http_port=0, grpc_port=0, isolation="thread", provider="onnxruntime",
        threads=1, allow_model_control=True, api_keys=folder / "keys.toml",
        tls_cert=folder / "cert.pem", tls_key=folder / "key.pem",
    ))  # fmt: skip
    yield running, folder / "ca.pem", text
    running.stop()


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_tls_and_keys(guarded: tuple[Running, Path, str], scheme: str) -> None:
    server, authority, key = guarded
    url = f"{scheme}://{server.http if scheme == 'https' else server.grpc}"
    trusted = connect(url, ca_cert=str(authority), api_key=key)
    _, outputs = trusted.infer("affine", {"x": X})
    np.testing.assert_allclose(outputs["y"], 2 * X + 1)
    with pytest.raises(_errors.ForbiddenError, match="needs the scope admin"):
        trusted.unload("affine")
    with pytest.raises(_errors.AuthenticationError, match="asks for an API key"):
        connect(url, ca_cert=str(authority)).models()
    with pytest.raises(_errors.AuthenticationError, match="not known") as found:
        connect(url, ca_cert=str(authority), api_key=SECRET).models()
    assert SECRET not in str(found.value)
    with pytest.raises(_errors.UnreachableError, match="--ca-cert"):
        connect(url, api_key=key).models()  # signed by nobody this machine trusts


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_authorities_that_are_none(scheme: str, tmp_path: Path) -> None:
    with pytest.raises(_errors.UsageError, match=r"--ca-cert .* cannot be"):
        connect(f"{scheme}://localhost", ca_cert=str(tmp_path / "nothing.pem"))
    with pytest.raises(_errors.UsageError, match="not encrypted"):
        connect("http://localhost", ca_cert=str(tmp_path / "nothing.pem"))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, _errors.InputError), (401, _errors.AuthenticationError),
        (429, _errors.RateLimitError), (403, _errors.ForbiddenError), (404, _errors.NotFoundError),
        (413, _errors.InputError), (422, _errors.ModelError), (501, _errors.NotBuiltError),
        (503, _errors.BusyError), (504, _errors.DeadlineError), (507, _errors.MemoryLimitError),
        (500, _errors.ServerError), (418, _errors.ServerError),
    ],
)  # fmt: skip
def test_statuses_become_the_errors_they_came_from(
    status: int, kind: type[_errors.RekindleError]
) -> None:
    assert type(failure(status, "no")) is kind
