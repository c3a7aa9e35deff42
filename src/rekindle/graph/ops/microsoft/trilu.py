"""Trilu, which stood here before it came into ONNX."""

from __future__ import annotations

from dataclasses import replace

from rekindle.graph import ops
from rekindle.graph.ops import register

NAMES = ("com.microsoft::Trilu",)

(_newest,) = ops.REGISTRY.get("Trilu")
register("com.microsoft::Trilu", replace(_newest, since=1))
