"""Providers: one file per engine a session can run on.

A provider registers a function that opens a model; what it gives back is a `Backend`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from rekindle._registry import Registry
from rekindle._types import TensorSpec
from rekindle.graph.ir import Array
from rekindle.runtime._options import Options
from rekindle.runtime.placement import Placement


class Backend(Protocol):
    """A model opened by a provider. The session checks feeds and takes turns before `run`."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int | None
    peak_device_bytes: int | None
    optimization: str

    @property
    def placement(self) -> Placement: ...

    @property
    def device_bytes(self) -> int | None: ...

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]: ...

    def close(self) -> None: ...


@runtime_checkable
class Concurrent(Protocol):
    """A backend that can run several inputs at a time."""

    def lanes(self, count: int) -> Sequence[Callable[[Mapping[str, Array]], dict[str, Array]]]:
        """`count` ways to run an input that do not wait for each other; the first is `run`."""
        ...


@dataclass(frozen=True)
class Provider:
    """A way to run models. `frameworks` lists the model kinds it opens by itself."""

    frameworks: tuple[str, ...]
    open: Callable[[Path, Options, str], Backend]
    """`open(path, options, reason)`: `reason` says why this provider was chosen."""


REGISTRY: Registry[Provider] = Registry(
    "rekindle.runtime.providers", kind="provider", entry_points="rekindle.providers"
)


def register(name: str, provider: Provider) -> None:
    REGISTRY.register(name, provider)
