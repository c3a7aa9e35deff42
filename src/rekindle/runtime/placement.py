"""What ran where, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PlacedNode:
    """One node of the model (or one fused group): where it runs, by what, and why there."""

    node: str
    op_type: str
    where: str
    """"device" or "host"."""
    kernels: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Placement:
    """Provider and device of a session, the reason they were chosen, and every node's place."""

    provider: str
    device: str
    reason: str
    nodes: Sequence[PlacedNode] = ()

    @property
    def summary(self) -> str:
        """One line for people."""
        text = f"{self.provider} on {self.device}"
        if self.nodes:
            host = sum(n.where == "host" for n in self.nodes)
            text += f", {len(self.nodes) - host} of {len(self.nodes)} nodes on the device"
        return f"{text} ({self.reason})" if self.reason else text

    def to_dict(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "device": self.device,
            "reason": self.reason,
            "nodes": [vars(n) | {"kernels": list(n.kernels)} for n in self.nodes],
        }
