"""Checkpoints: tensors and plain data only, so that reading one can never run code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rekindle._errors import NotFoundError, UsageError

FORMAT = "rekindle-checkpoint"
VERSION = 1


def save_checkpoint(path: Path, config: dict[str, Any], state: dict[str, Any]) -> None:
    """Write atomically: a stop while writing leaves the previous checkpoint whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    content = {"format": FORMAT, "version": VERSION, "config": config, "state": state}
    torch.save(content, partial)
    partial.replace(path)


def load_checkpoint(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The state that `save_checkpoint` was given, if it was written under the same config.

    NotFoundError without a file; UsageError when it is damaged, holds anything but tensors and
    plain data, or belongs to another config (the message names the differing keys).
    """
    if not path.is_file():
        raise NotFoundError(f"checkpoint {path} does not exist", hint="start without resume")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader meets damaged bytes with almost any exception
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"{path} is not a checkpoint: {reason}", hint="start anew without resume"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UsageError(
            f"{path} is not a Rekindle checkpoint", hint="give the file that training wrote"
        )
    if content.get("version") != VERSION:
        raise UsageError(
            f"{path} has checkpoint version {content.get('version')}, not {VERSION}",
            hint="resume with the Rekindle version that wrote it",
        )
    theirs = content["config"]
    differing = sorted(k for k in theirs.keys() | config.keys() if theirs.get(k) != config.get(k))
    if differing:
        changes = ", ".join(
            f"{k}: {theirs.get(k)!r} there, {config.get(k)!r} now" for k in differing
        )
        raise UsageError(
            f"{path} was written with another configuration ({changes})",
            hint="resume with the same settings, or start anew without resume",
        )
    state: dict[str, Any] = content["state"]
    return state
