"""`GET /metrics`: the server's figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from rekindle.device.telemetry import read_telemetry
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.observe.metrics import Metrics


def router(plane: DataPlane) -> APIRouter:
    """The route, with a registry of its own: several servers may live in one process."""
    metrics = Metrics(plane, read_telemetry, triton=plane.settings.triton_metrics)
    plane.listeners.add(metrics)
    routes = APIRouter(tags=["Monitoring"])

    @routes.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def scrape(request: Request) -> Response:
        body, kind = await metrics.exposition(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": kind})

    return routes
