"""The HTTP face of the server."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI

import rekindle
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.rest import errors, friendly, metrics, v2


def build_app(plane: DataPlane, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """The application; `routers` are mounted beside its own routes (pages, applications)."""
    app = FastAPI(
        title="Rekindle",
        version=rekindle.__version__,
        summary="AI on the graphics card you already own",
        # Documentation pages would load scripts from elsewhere; the document itself is enough.
        redoc_url=None,
    )
    errors.install(app)
    app.include_router(v2.router(plane))
    app.include_router(friendly.router(plane))
    app.include_router(metrics.router(plane))
    for router in routers:
        app.include_router(router)
    return app
