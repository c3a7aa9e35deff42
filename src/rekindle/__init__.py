"""Rekindle: AI on the graphics card you already own.

The public surface is small and loads lazily: `import rekindle` imports no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rekindle._errors import RekindleError
    from rekindle._types import DType, Target, TensorSpec
    from rekindle.device import list_devices
    from rekindle.hub import ModelCard
    from rekindle.runtime import Session, open_session
    from rekindle.tasks.classify import classify

__version__ = "0.1.0"

_HOMES = {
    "DType": "rekindle._types",
    "ModelCard": "rekindle.hub",
    "RekindleError": "rekindle._errors",
    "Session": "rekindle.runtime",
    "Target": "rekindle._types",
    "TensorSpec": "rekindle._types",
    "classify": "rekindle.tasks.classify",
    "list_devices": "rekindle.device",
    "open_session": "rekindle.runtime",
}

__all__ = [
    "DType",
    "ModelCard",
    "RekindleError",
    "Session",
    "Target",
    "TensorSpec",
    "classify",
    "list_devices",
    "open_session",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rekindle' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
