"""The client over gRPC: the same calls, in the protocol's messages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from rekindle._errors import DeadlineError, RekindleError, UnreachableError, UsageError
from rekindle.graph.ir import Array
from rekindle.serve.client import CONNECT_S, Endpoint
from rekindle.serve.client.answers import failure
from rekindle.serve.grpc import schema
from rekindle.serve.tensors import datatype_of, from_raw, to_raw

_SERVICE = "inference.GRPCInferenceService"
_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 422,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_NOT_CONNECTED = ("failed to connect to", "connections to all backends failing", "DNS resolution")
"""How gRPC's own messages begin where it was no server that answered."""


class GrpcClient:
    """One channel. See `Client` for the calls."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.min_reconnect_backoff_ms", round(CONNECT_S * 1e3)),
        ]
        if endpoint.encrypted:
            trusted = _read(endpoint.ca_cert) if endpoint.ca_cert else None
            credentials = grpc.ssl_channel_credentials(trusted)
            self._channel = grpc.secure_channel(endpoint.address, credentials, options)
        else:
            self._channel = grpc.insecure_channel(endpoint.address, options)
        self._methods = {name: rest for name, *rest in schema.methods(_SERVICE)}
        self._metadata = (
            (("authorization", f"Bearer {endpoint.api_key}"),) if endpoint.api_key else ()
        )

    def health(self) -> dict[str, Any]:
        return {"ready": bool(self._call("ServerReady").ready)}

    def models(self) -> list[dict[str, Any]]:
        return [_plain(model) for model in self._call("RepositoryIndex").models]

    def metadata(self, model: str, version: str = "") -> dict[str, Any]:
        found = _plain(self._call("ModelMetadata", name=model, version=version))
        for tensor in (*found["inputs"], *found["outputs"]):
            tensor["shape"] = [int(d) for d in tensor["shape"]]  # JSON has int64 as text
        return found

    def load(self, model: str) -> None:
        self._call("RepositoryModelLoad", model_name=model)

    def unload(self, model: str) -> None:
        self._call("RepositoryModelUnload", model_name=model)

    def infer(
        self, model: str, inputs: Mapping[str, Array], version: str = ""
    ) -> tuple[str, dict[str, Array]]:
        tensors = [
            {"name": name, "datatype": datatype_of(array), "shape": array.shape}
            for name, array in inputs.items()
        ]
        raw = [to_raw(array) for array in inputs.values()]
        answer = self._call(
            "ModelInfer", model_name=model, model_version=version, inputs=tensors,
            raw_input_contents=raw,
        )  # fmt: skip
        if len(answer.raw_output_contents) != len(answer.outputs):
            raise UnreachableError(
                f"{self.endpoint} does not send outputs as raw contents", hint="use http://"
            )
        pairs = zip(answer.outputs, answer.raw_output_contents, strict=True)
        outputs = {o.name: from_raw(o.name, o.datatype, tuple(o.shape), data) for o, data in pairs}
        return str(answer.model_version), outputs

    def classify(self, photo: bytes, fields: Mapping[str, str]) -> dict[str, Any]:
        raise UsageError(
            "photos go over REST, which the server prepares as the model's card says",
            hint="--url http://HOST:PORT",
        )

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: str, **fields: Any) -> Any:
        request, response, _ = self._methods[method]
        call = self._channel.unary_unary(
            f"/{_SERVICE}/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            return call(request(**fields), timeout=self.endpoint.timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._failure(error) from None

    def _failure(self, error: Any) -> RekindleError:
        code, message = error.code(), error.details() or "no message"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and message == "Deadline Exceeded":
            return DeadlineError(
                f"{self.endpoint} did not answer within {self.endpoint.timeout_s:g} s",
                hint="--timeout SECONDS waits longer",
            )
        if code is grpc.StatusCode.UNAVAILABLE and message.startswith(_NOT_CONNECTED):
            return UnreachableError(
                f"no server answers at {self.endpoint}",
                hint="start one with `rekindle serve`, check the port (REST has another one), "
                "and for grpcs:// the certificate (--ca-cert)",
            )
        return failure(_STATUSES.get(code, 500), message)


def _plain(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(
            f"--ca-cert {path} cannot be read: {error.strerror}", hint="it is a PEM file"
        ) from None
