"""The command line: one file per command."""

from __future__ import annotations

from rekindle.cli._app import app, main

__all__ = ["app", "main"]
