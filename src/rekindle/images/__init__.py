"""Decode a picture and prepare it as a model card says; nothing else."""

from __future__ import annotations

from rekindle.images.decode import SUFFIXES, decode
from rekindle.images.prepare import Preparation, prepare

__all__ = ["SUFFIXES", "Preparation", "decode", "prepare"]
