"""`GET /metrics`: the server's counts for Prometheus, read when asked for."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from rekindle.serve.dataplane import DataPlane

_LABELS = ("model", "version")


class PlaneCollector(Collector):
    """What the statistics and the budget hold at the moment of a scrape."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "rekindle_requests", "Requests answered.", labels=(*_LABELS, "outcome")
        )
        rows = CounterMetricFamily("rekindle_inferences", "Rows computed.", labels=_LABELS)
        runs = CounterMetricFamily("rekindle_runs", "Runs of the model.", labels=_LABELS)
        for key, counted in self._plane.statistics.items():
            rows.add_metric(key, counted.inference_count)
            runs.add_metric(key, counted.execution_count)
            for outcome in ("success", "fail"):
                requests.add_metric((*key, outcome), counted.durations[outcome].count)
        yield from (requests, rows, runs)
        yield from self._gauges()

    def _gauges(self) -> Iterator[Metric]:
        fleet = self._plane.fleet
        nbytes = GaugeMetricFamily(
            "rekindle_model_loaded_bytes", "Memory a loaded model takes.", labels=_LABELS
        )
        queued = GaugeMetricFamily("rekindle_queue_depth", "Requests waiting.", labels=_LABELS)
        for slot in fleet.slots():
            if slot.instance is not None:
                key = (slot.entry.name, slot.entry.version)
                nbytes.add_metric(key, fleet.budget.holding(slot.key).nbytes)
                queued.add_metric(key, slot.instance.queued)
        yield from (nbytes, queued)
        if fleet.budget.capacity is not None:
            yield GaugeMetricFamily(
                "rekindle_memory_budget_bytes", "The budget.", fleet.budget.capacity
            )


def router(plane: DataPlane) -> APIRouter:
    """The route, with a registry of its own: several servers may live in one process."""
    registry = CollectorRegistry()
    registry.register(PlaneCollector(plane))
    routes = APIRouter(tags=["Monitoring"])

    @routes.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes
