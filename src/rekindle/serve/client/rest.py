"""The client over HTTP: the protocol's routes, tensors as bytes, and the routes for people."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from http.client import RemoteDisconnected
from typing import Any
from urllib.parse import quote

import urllib3
from urllib3 import exceptions

from rekindle._errors import DeadlineError, RekindleError, UnreachableError, UsageError
from rekindle.graph.ir import Array
from rekindle.serve.client import CONNECT_S, Endpoint
from rekindle.serve.client.answers import failure
from rekindle.serve.tensors import datatype_of, from_raw, from_values, to_raw

_HEADER_LENGTH = "Inference-Header-Content-Length"


class RestClient:
    """One connection, kept open. See `Client` for the calls."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        timeout = urllib3.Timeout(connect=CONNECT_S, read=endpoint.timeout_s)
        self._headers = {"Accept": "application/json"}
        if endpoint.api_key:
            self._headers["Authorization"] = f"Bearer {endpoint.api_key}"
        self._pool: urllib3.HTTPConnectionPool
        # A redirect could carry the key elsewhere, and an inference is not repeated unasked.
        if endpoint.scheme == "https":
            self._pool = urllib3.HTTPSConnectionPool(
                endpoint.host, endpoint.port, timeout=timeout, retries=False,
                ssl_context=_trusting(endpoint.ca_cert),
            )  # fmt: skip
        else:
            self._pool = urllib3.HTTPConnectionPool(
                endpoint.host, endpoint.port, timeout=timeout, retries=False
            )

    def health(self) -> dict[str, Any]:
        """What `/health` tells; of other servers of the protocol, whether they are ready."""
        for path in ("/health", "/v2/health/ready"):
            response = self._send("GET", path)
            if response.status in (200, 503):
                found = _document(response.data)
                table = found if isinstance(found, dict) else {}
                return {"ready": response.status == 200} | table
        raise self._failure(response)

    def models(self) -> list[dict[str, Any]]:
        found = self._json("POST", "/v2/repository/index", b"{}")
        if not isinstance(found, list):
            raise self._strange()
        return found

    def metadata(self, model: str, version: str = "") -> dict[str, Any]:
        return self._object("GET", _path(model, version))

    def load(self, model: str) -> None:
        self._call("POST", f"/v2/repository/models/{quote(model, safe='')}/load", b"{}")

    def unload(self, model: str) -> None:
        self._call("POST", f"/v2/repository/models/{quote(model, safe='')}/unload", b"{}")

    def infer(
        self, model: str, inputs: Mapping[str, Array], version: str = ""
    ) -> tuple[str, dict[str, Array]]:
        blobs = {name: to_raw(array) for name, array in inputs.items()}
        head = json.dumps({
            "parameters": {"binary_data_output": True},
            "inputs": [
                {
                    "name": name, "shape": list(array.shape), "datatype": datatype_of(array),
                    "parameters": {"binary_data_size": len(blobs[name])},
                }
                for name, array in inputs.items()
            ],
        }).encode()  # fmt: skip
        headers = {
            _HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream",
        }  # fmt: skip
        body = b"".join((head, *blobs.values()))
        response = self._call("POST", f"{_path(model, version)}/infer", body, headers)
        return self._outputs(response)

    def classify(self, photo: bytes, fields: Mapping[str, str]) -> dict[str, Any]:
        form = dict(fields) | {"photo": ("photo", photo, "application/octet-stream")}
        body, kind = urllib3.encode_multipart_formdata(form)
        return self._object("POST", "/classify", body, {"Content-Type": kind})

    def close(self) -> None:
        self._pool.close()

    def _outputs(self, response: urllib3.BaseHTTPResponse) -> tuple[str, dict[str, Array]]:
        data = memoryview(response.data)
        try:
            split = int(response.headers.get(_HEADER_LENGTH, len(data)))
            document = json.loads(bytes(data[:split]))
            outputs, at = {}, split
            for item in document["outputs"]:
                name, kind, shape = item["name"], item["datatype"], item["shape"]
                size = item.get("parameters", {}).get("binary_data_size")
                if size is None:
                    outputs[name] = from_values(name, kind, shape, item["data"])
                else:
                    outputs[name] = from_raw(name, kind, shape, data[at : at + size])
                    at += size
            return str(document.get("model_version", "")), outputs
        except (KeyError, TypeError, ValueError, AttributeError, RekindleError):
            raise self._strange() from None

    def _object(
        self, method: str, path: str, body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        found = self._json(method, path, body, headers)
        if not isinstance(found, dict):
            raise self._strange()
        return found

    def _json(
        self, method: str, path: str, body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:  # fmt: skip
        found = _document(self._call(method, path, body, headers).data)
        if found is None:
            raise self._strange()
        return found

    def _call(
        self, method: str, path: str, body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:  # fmt: skip
        response = self._send(method, path, body, headers)
        if response.status != 200:
            raise self._failure(response)
        return response

    def _send(
        self, method: str, path: str, body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:  # fmt: skip
        given = {**self._headers, **(headers or {})}
        try:
            return self._pool.urlopen(method, path, body, given, redirect=False)
        except exceptions.NewConnectionError as error:  # before ConnectTimeoutError: it is one
            raise UnreachableError(
                f"no server answers at {self.endpoint}: {_reason(error)}",
                hint="start one with `rekindle serve`, or name another with --url",
            ) from None
        except exceptions.ConnectTimeoutError:
            raise UnreachableError(
                f"{self.endpoint} takes no connection within {CONNECT_S:g} s",
                hint="check the address, and that no firewall is in between",
            ) from None
        except exceptions.TimeoutError:
            raise DeadlineError(
                f"{self.endpoint} did not answer within {self.endpoint.timeout_s:g} s",
                hint="--timeout SECONDS waits longer",
            ) from None
        except exceptions.SSLError as error:
            raise UnreachableError(
                f"{self.endpoint}: no trusted connection: {error}",
                hint="--ca-cert FILE names the authority that signed the server's certificate",
            ) from None
        except (exceptions.HTTPError, OSError) as error:
            if isinstance(error.__cause__, RemoteDisconnected | OSError):
                raise UnreachableError(
                    f"{self.endpoint} closed the connection before it answered",
                    hint="ask again; the server's log may say why",
                ) from None
            raise self._strange() from None

    def _failure(self, response: urllib3.BaseHTTPResponse) -> RekindleError:
        document = _document(response.data)
        message = document.get("error") if isinstance(document, dict) else None
        if not isinstance(message, str):
            return failure(response.status, "no message; is it a server of models?")
        return failure(response.status, message)

    def _strange(self) -> RekindleError:
        return UnreachableError(
            f"what answers at {self.endpoint} does not speak the Open Inference Protocol v2",
            hint="check the address and the port; the gRPC port is grpc://HOST:PORT",
        )


def _document(data: bytes) -> Any:
    """The JSON in an answer; None where it is none."""
    try:
        return json.loads(data)
    except ValueError:
        return None


def _path(model: str, version: str) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _trusting(ca_cert: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_cert)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"--ca-cert {ca_cert} cannot be used: {error}", hint="it is a PEM file"
        ) from None


def _reason(error: Exception) -> str:
    """The system's words, without the library's around them."""
    return getattr(error.__cause__, "strerror", None) or "no connection"
