"""What ran where, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rekindle.engine.plan import DeviceStep, Step
from rekindle.graph.ir import Node

if TYPE_CHECKING:
    from rekindle.engine.streaming import Residency
    from rekindle.engine.transfers import Transfer


@dataclass(frozen=True)
class PlacedNode:
    """One node of the model (or one fused group): where it runs, by what, and why there."""

    node: str
    op_type: str
    where: str
    """"device" or "host"."""
    kernels: tuple[str, ...] = ()
    """Or, on the host, the engine: none for the operator's reference."""
    reason: str = ""
    tuned: tuple[str, ...] = ()
    """Kernel and variant of each call that a tuning record decided."""

    @classmethod
    def of(cls, step: Step) -> list[PlacedNode]:
        """The nodes of one step of a plan."""
        if isinstance(step, DeviceStep):
            node = step.node
            facts = (step.algorithms, step.reason, step.tuned)
            return [cls(_label(node), node.qualified, "device", *facts)]
        by = ("onnxruntime",) if step.run else ()
        return [cls(_label(n), n.qualified, "host", by, why) for n, why in step.nodes]


def _label(node: Node) -> str:
    return node.name or next(filter(None, node.outputs))


@dataclass(frozen=True)
class Streaming:
    """Weights that do not fit and are sent from host memory in every run: what that costs."""

    limit_bytes: int
    """What the session may take of the device."""
    streamed_bytes: int
    """Sent in every run, ahead of use."""
    resident_bytes: int
    """Weights that stay on the device."""
    staging_bytes: int
    """Device memory that the streamed weights share."""
    stages: int
    """How many times in a run the weights in half of that memory are replaced."""
    bandwidth_bytes_s: float | None = None
    """Measured from host memory to the device when the model was opened; None: not measured."""

    @classmethod
    def of(
        cls, kept: Residency, limit_bytes: int, bandwidth_bytes_s: float | None = None
    ) -> Streaming | None:
        """None where nothing is streamed."""
        if not kept.stages:
            return None
        return cls(
            limit_bytes,
            kept.streamed_bytes,
            kept.resident_bytes,
            kept.staging_bytes,
            len(kept.stages),
            bandwidth_bytes_s,
        )

    @property
    def upload_s(self) -> float | None:
        """Estimate of the seconds that sending takes; the kernels run meanwhile."""
        return self.streamed_bytes / self.bandwidth_bytes_s if self.bandwidth_bytes_s else None

    @property
    def summary(self) -> str:
        """The cost, for people."""
        text = f"{self.streamed_bytes / 1e6:,.1f} MB of weights streamed in each run"
        if self.upload_s is not None and self.bandwidth_bytes_s is not None:
            text += (
                f", estimate {self.upload_s * 1e3:,.1f} ms of sending at the measured "
                f"{self.bandwidth_bytes_s / 1e9:.1f} GB/s"
            )
        return text

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {"upload_s_estimate": self.upload_s, "summary": self.summary}


@dataclass(frozen=True)
class Placement:
    """Provider and device of a session, the reason they were chosen, and every node's place."""

    provider: str
    device: str
    reason: str
    nodes: Sequence[PlacedNode] = ()
    streaming: Streaming | None = None
    """None: all weights stay where they are used."""
    transfers: Sequence[Transfer] = ()
    """Values that move between host and device in every run, in that order."""

    @property
    def summary(self) -> str:
        """One line for people."""
        text = f"{self.provider} on {self.device}"
        if self.nodes:
            host = sum(n.where == "host" for n in self.nodes)
            text += f", {len(self.nodes) - host} of {len(self.nodes)} nodes on the device"
        if self.provider == "hybrid" and self.transfers:
            text += f", {len(self.transfers)} transfers a run"
        if tuned := sum(bool(n.tuned) for n in self.nodes):
            text += f", {tuned} by tuning records"
        if self.streaming:
            text += f", {self.streaming.summary}"
        return f"{text} ({self.reason})" if self.reason else text

    def to_dict(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "device": self.device,
            "reason": self.reason,
            "nodes": [
                vars(n) | {"kernels": list(n.kernels), "tuned": list(n.tuned)} for n in self.nodes
            ],
            "streaming": self.streaming.to_dict() if self.streaming else None,
            "transfers": [vars(transfer) for transfer in self.transfers],
        }
