"""Where a session runs and what memory it takes there, for documents and for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rekindle.cli._page import Page, memory

if TYPE_CHECKING:
    from rekindle.runtime import Session


def placement_facts(session: Session) -> dict[str, Any]:
    """Provider, device, the reason, the device memory held now, and what is streamed."""
    placement = session.placement
    return {
        "provider": placement.provider,
        "device": placement.device,
        "reason": placement.reason,
        "device_bytes": session.device_bytes,
        "streaming": placement.streaming.to_dict() if placement.streaming else None,
    }


def draw_streaming(page: Page, facts: Mapping[str, Any]) -> None:
    """What staying within a memory limit costs; nothing where nothing is streamed."""
    if streaming := facts["streaming"]:
        page.line(
            f"within {memory(streaming['limit_bytes'])}: {streaming['summary']}", style="yellow"
        )
