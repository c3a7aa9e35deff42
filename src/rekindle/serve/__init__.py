"""The model server: models from a folder, within a memory budget, over REST and gRPC.

How a request flows:

1. `rest/` and `grpc/` turn bytes into an `InferRequest`; they know protocols and nothing else.
2. `dataplane.py` is the one entry: it checks the request and keeps its deadline.
3. `fleet.py` finds the loaded model and pins it, or loads it; `budget.py` says who must go.
4. `batching/` puts requests of one shape together and gives each its own rows back.
5. `worker/` runs the batch in a `Session`: in a process of its own, or in a thread.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rekindle.serve.dataplane import DataPlane
    from rekindle.serve.messages import InferRequest, InferResponse
    from rekindle.serve.server import Server
    from rekindle.serve.settings import Settings

_HOMES = {
    "DataPlane": "rekindle.serve.dataplane",
    "InferRequest": "rekindle.serve.messages",
    "InferResponse": "rekindle.serve.messages",
    "Server": "rekindle.serve.server",
    "Settings": "rekindle.serve.settings",
}

__all__ = ["DataPlane", "InferRequest", "InferResponse", "Server", "Settings"]


def __getattr__(name: str) -> object:
    # A worker process imports this package, too, and needs no web framework.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rekindle.serve' has no attribute {name!r}")
