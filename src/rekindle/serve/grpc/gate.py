"""The gate before the gRPC calls."""

from __future__ import annotations

from typing import Any

from rekindle.serve.access.gate import Gate, Need
from rekindle.serve.grpc.observed import host_of

_NEEDS: dict[str, Need] = {
    "ServerLive": "open",
    "ServerReady": "open",
    "ModelInfer": "infer",
    "ModelStreamInfer": "infer",
    "RepositoryModelLoad": "admin",
    "RepositoryModelUnload": "admin",
}
"""Every other call describes: any key will do."""


def needed(method: str) -> Need:
    """What a call of the inference service needs."""
    return _NEEDS.get(method, "look")


def admit(gate: Gate, need: Need, context: Any) -> str:
    """As `Gate.admit`, with the key from the call's metadata."""
    if not gate.asks or need == "open":
        return ""
    metadata = dict(context.invocation_metadata() or ())
    presented = metadata.get("x-api-key")
    if not presented:
        kind, _, value = str(metadata.get("authorization", "")).partition(" ")
        presented = value.strip() if kind.lower() == "bearer" else None
    return gate.admit(need, presented, host_of(context.peer()))
