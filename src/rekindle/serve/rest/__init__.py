"""The HTTP face of the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, FastAPI

import rekindle
from rekindle.serve.access.gate import Gate
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.rest import errors, friendly, metrics, v2
from rekindle.serve.rest.direct import Direct
from rekindle.serve.rest.gate import GateMiddleware

Mount = Callable[[FastAPI, DataPlane, Gate], None]
"""Adds what another room has to an application: pages that need the data plane and the gate."""


def build_app(
    plane: DataPlane, gate: Gate, routers: Sequence[APIRouter] = (), mounts: Sequence[Mount] = ()
) -> FastAPI:
    """The application behind its gate; `routers` and `mounts` come beside its own routes
    (applications, pages).
    """
    app = FastAPI(
        title="Rekindle",
        version=rekindle.__version__,
        summary="AI on the graphics card you already own",
        # Documentation pages would load scripts from elsewhere; the document itself is enough.
        redoc_url=None,
    )
    errors.install(app)
    app.add_middleware(Direct, plane=plane)
    app.add_middleware(GateMiddleware, gate=gate)  # the last one added is the first one asked
    app.include_router(v2.router(plane))
    app.include_router(friendly.router(plane))
    app.include_router(metrics.router(plane))
    for router in routers:
        app.include_router(router)
    for mount in mounts:
        mount(app, plane, gate)
    return app
