"""Model cards, and names that stand for models."""

from __future__ import annotations

from rekindle.hub.card import ModelCard, dumps, load_card
from rekindle.hub.names import Resolved, list_models, resolve, verify

__all__ = ["ModelCard", "Resolved", "dumps", "list_models", "load_card", "resolve", "verify"]
