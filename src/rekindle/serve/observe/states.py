"""Figures that are states, read when somebody scrapes: models, memory, queues, graphics cards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from rekindle.device.telemetry import Telemetry
from rekindle.serve.dataplane import DataPlane

_MODEL = ("model", "version")


class PlaneCollector(Collector):
    """What the fleet and the budget hold."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def collect(self) -> Iterator[Metric]:
        plane = self._plane
        yield GaugeMetricFamily("rekindle_ready", "Whether requests should come.", plane.ready)
        yield GaugeMetricFamily(
            "rekindle_in_flight_requests", "Requests for inference at work.", plane.in_flight
        )
        yield from self._models()
        budget = plane.fleet.budget
        yield GaugeMetricFamily(
            "rekindle_memory_used_bytes", "What all models take together.", budget.used
        )
        if budget.capacity is not None:
            yield GaugeMetricFamily(
                "rekindle_memory_budget_bytes", "What they may take.", budget.capacity
            )

    def _models(self) -> Iterator[Metric]:
        fleet = self._plane.fleet
        ready = GaugeMetricFamily(
            "rekindle_model_ready", "Whether a model answers requests.", labels=_MODEL
        )
        nbytes = GaugeMetricFamily(
            "rekindle_model_bytes", "Memory a loaded model takes; 0: not loaded.", labels=_MODEL
        )
        queued = GaugeMetricFamily(
            "rekindle_queued_requests", "Requests that wait for a run.", labels=_MODEL
        )
        resident = GaugeMetricFamily(
            "rekindle_worker_resident_memory_bytes",
            "Memory of a model's worker process, as the system sees it.",
            labels=_MODEL,
        )
        for slot in fleet.slots():
            key = (slot.entry.name, slot.entry.version)
            loaded = slot.instance is not None
            ready.add_metric(key, slot.ready)
            nbytes.add_metric(key, fleet.budget.holding(slot.key).nbytes if loaded else 0)
            queued.add_metric(key, slot.instance.queued if slot.instance else 0)
            if slot.instance is not None and slot.instance.pid is not None:
                resident.add_metric(key, resident_bytes(slot.instance.pid))
        yield from (ready, nbytes, queued, resident)


def resident_bytes(pid: int) -> int:
    """0 where the process has ended, or the system has no /proc."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


_CARD = ("card", "name")
_FIGURES = (
    ("temperature_celsius", "temperature_c", "Temperature of the chip.", 1.0),
    ("power_watts", "power_w", "Power that the card draws.", 1.0),
    ("memory_used_bytes", "vram_used_bytes", "Graphics memory in use, by anybody.", 1.0),
    ("memory_bytes", "vram_total_bytes", "Graphics memory.", 1.0),
    ("busy_ratio", "busy_percent", "Share of the time that the card worked.", 0.01),
    ("core_clock_hertz", "core_clock_hz", "Clock of the processor now.", 1.0),
    ("memory_clock_hertz", "memory_clock_hz", "Clock of the memory now.", 1.0),
    ("fan_revolutions_per_minute", "fan_rpm", "Speed of the fan.", 1.0),
)
"""Name, field of Telemetry, meaning, factor."""
_TRITON = (
    ("nv_gpu_memory_total_bytes", "vram_total_bytes", 1.0),
    ("nv_gpu_memory_used_bytes", "vram_used_bytes", 1.0),
    ("nv_gpu_power_usage", "power_w", 1.0),
    ("nv_gpu_utilization", "busy_percent", 0.01),
)


class CardCollector(Collector):
    """What the kernel driver tells of each card; what it does not tell is left out."""

    def __init__(self, *, triton: bool = False) -> None:
        self.cards: Sequence[Telemetry] = ()
        self._triton = triton

    def collect(self) -> Iterator[Metric]:
        for name, field, text, factor in _FIGURES:
            family = GaugeMetricFamily(f"rekindle_device_{name}", text, labels=_CARD)
            for card in self.cards:
                if (value := getattr(card, field)) is not None:
                    family.add_metric((card.card, card.name or ""), value * factor)
            yield family
        for name, field, factor in _TRITON if self._triton else ():
            alias = UnknownMetricFamily(name, "As Triton calls it.", labels=("gpu_uuid",))
            for card in self.cards:
                if (value := getattr(card, field)) is not None:
                    alias.add_metric((card.pci_address or card.card,), value * factor)
            yield alias
