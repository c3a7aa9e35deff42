"""Loading and unloading on a caller's word: refused unless the server was started to allow it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from rekindle._errors import BusyError, ForbiddenError, InputError
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.repository import ModelConfig, read_config


def permit(plane: DataPlane) -> None:
    """ForbiddenError unless callers may load and unload; BusyError while shutting down."""
    if not plane.settings.allow_model_control:
        raise ForbiddenError(
            "this server does not let callers load or unload models",
            hint="start it with --allow-model-control",
        )
    if plane.draining:
        raise BusyError("the server is shutting down")


async def load(plane: DataPlane, name: str, parameters: Mapping[str, Any]) -> None:
    """Load or reload; `parameters["config"]` may be Triton's model configuration in JSON."""
    permit(plane)
    if not isinstance(parameters, Mapping):
        raise InputError("parameters is no object")
    if unknown := [key for key in parameters if key != "config"]:
        raise InputError(
            f"the load parameter {str(unknown[0])[:60]!r} is not known",
            hint="models come from the repository's folder, never with a call; known: config",
        )
    config = parameters.get("config")
    await plane.fleet.load(name, None if config is None else _config(config))


async def unload(plane: DataPlane, name: str) -> None:
    """Stop serving a model; returns once its memory has been given back."""
    permit(plane)
    await plane.fleet.unload(name)


def _config(text: Any) -> ModelConfig:
    """Our configuration from Triton's: max_batch_size, the queue delay and the version policy."""
    try:
        table = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError) as error:
        raise InputError(f"config is not JSON: {error}") from None
    if not isinstance(table, dict):
        raise InputError("config is no JSON object")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key in ("name", "platform", "backend"):
            continue
        if key == "max_batch_size":
            values["max_batch"] = max(value, 1) if type(value) is int else value
        elif key == "dynamic_batching" and isinstance(value, dict):
            delay = value.get("max_queue_delay_microseconds", 0)
            values["window_ms"] = delay / 1e3 if type(delay) is int else delay
        elif key == "version_policy" and isinstance(value, dict):
            values["versions"] = _versions(value)
        else:
            raise InputError(
                f"config: {key} is not known",
                hint="max_batch_size, dynamic_batching.max_queue_delay_microseconds, "
                "version_policy",
            )
    return read_config(values, "config")


def _versions(policy: Mapping[str, Any]) -> Any:
    if isinstance(latest := policy.get("latest"), dict):
        return latest.get("num_versions", 1)
    if isinstance(specific := policy.get("specific"), dict):
        return [str(v) for v in specific.get("versions", [])]
    if "all" in policy:
        return 2**31
    raise InputError("config: version_policy is not known", hint="latest, specific or all")
