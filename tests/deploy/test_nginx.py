"""nginx with the example's configuration in front of a real server: REST and gRPC over TLS."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from serving import LIMIT_S, Running, affine, put

from rekindle.serve import Settings

pytest.importorskip("tritonclient", reason="tritonclient is not installed")
import tritonclient.grpc as over_grpc

CONF = Path(__file__).parents[2] / "deploy/nginx/rekindle.conf"
NAME = "models.example.org"
BODY = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("models")
    put(root, "affine", "1", affine())
    running = Running(
        Settings(
            root, http_port=0, grpc_port=0, isolation="thread", provider="onnxruntime", threads=1
        )
    )
    yield running
    running.stop()


@pytest.fixture(scope="module")
def proxy(
    server: Running, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, int]]]:
    """Nginx as another user would start it; its certificate, and its port for each of the three."""
    nginx, openssl = shutil.which("nginx"), shutil.which("openssl")
    if not (nginx and openssl):
        pytest.skip("nginx and openssl are not installed")
    folder = tmp_path_factory.mktemp("nginx")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
         f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", folder / "privkey.pem",
         "-out", folder / "fullchain.pem"], check=True, capture_output=True,
    )  # fmt: skip
    ports = {name: free_port() for name in ("80", "443", "8443")}
    text = CONF.read_text(encoding="utf-8").replace(f"/etc/letsencrypt/live/{NAME}", str(folder))
    text = "\n".join(line for line in text.splitlines() if "listen [::]" not in line)
    for name, port in ports.items():
        text = text.replace(f"listen {name};", f"listen 127.0.0.1:{port};")
        text = text.replace(f"listen {name} ssl", f"listen 127.0.0.1:{port} ssl")
    text = text.replace("127.0.0.1:8000;", f"{server.http};")
    text = text.replace("127.0.0.1:8001;", f"{server.grpc};")
    (folder / "rekindle.conf").write_text(text, encoding="utf-8")
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{places}include {folder}/rekindle.conf;\n}}\n",
        encoding="utf-8",
    )
    process = subprocess.Popen([nginx, "-e", folder / "error.log", "-c", folder / "nginx.conf"])
    context = ssl.create_default_context(cafile=folder / "fullchain.pem")
    try:
        for _ in range(200):
            try:
                ask(ports["443"], "/v2/health/live", context)
                break
            except OSError:
                assert process.poll() is None, (folder / "error.log").read_text()
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.1)
        yield folder, ports
    finally:
        process.terminate()
        process.wait(LIMIT_S)


class _Named(http.client.HTTPSConnection):
    """Calls 127.0.0.1, and means the name that is in the certificate."""

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self.port), LIMIT_S)
        self.sock = self._context.wrap_socket(plain, server_hostname=NAME)  # type: ignore[attr-defined]


def ask(
    port: int, path: str, context: ssl.SSLContext, body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    connection = _Named(NAME, port, context=context)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET" if body is None else "POST", path, body, sent)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_rest_over_tls(proxy: tuple[Path, dict[str, int]]) -> None:
    folder, ports = proxy
    context = ssl.create_default_context(cafile=folder / "fullchain.pem")
    body = json.dumps(BODY).encode()
    status, data = ask(ports["443"], "/v2/models/affine/infer", context, body)
    assert (status, json.loads(data)["outputs"][0]["data"]) == (200, [3, 5, 7])
    # A page of the server itself may act, one from elsewhere may not: Host comes through.
    own = ask(
        ports["443"], "/v2/models/affine/infer", context, body,
        Origin=f"https://{NAME}:{ports['443']}",
    )[0]  # fmt: skip
    other = ask(
        ports["443"], "/v2/models/affine/infer", context, body, Origin="https://evil.example"
    )[0]
    assert (own, other) == (200, 403)
    assert ask(ports["443"], "/metrics", context)[0] == 403
    large = b"x" * (64 * 2**20 + 1)
    assert ask(ports["443"], "/v2/models/affine/infer", context, large)[0] == 413


def test_plain_http_is_sent_to_tls(proxy: tuple[Path, dict[str, int]]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy[1]["80"], timeout=LIMIT_S)
    connection.request("GET", "/models", headers={"Host": NAME})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("location")) == (301, f"https://{NAME}/models")
    connection.close()


def test_grpc_over_tls(proxy: tuple[Path, dict[str, int]]) -> None:
    folder, ports = proxy
    tensor = over_grpc.InferInput("x", [2, 3], "FP32")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor.set_data_from_numpy(x)
    with over_grpc.InferenceServerClient(
        f"127.0.0.1:{ports['8443']}", ssl=True, root_certificates=str(folder / "fullchain.pem"),
        channel_args=[("grpc.ssl_target_name_override", NAME)],
    ) as client:  # fmt: skip
        np.testing.assert_array_equal(client.infer("affine", [tensor]).as_numpy("y"), 2 * x + 1)
