"""The way of most requests: inference, past the layers that other routes need.

A framework's routing, dependency handling and exit stacks cost a small request as much as all the
rest. The route stands in the API's description all the same, and answers the same.
"""

from __future__ import annotations

import re
from types import SimpleNamespace

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rekindle._errors import RekindleError
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.rest.errors import respond
from rekindle.serve.rest.v2 import CLIENT_LEFT, infer

_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
_NEWEST = SimpleNamespace(path="/v2/models/{name}/infer")
_VERSION = SimpleNamespace(path="/v2/models/{name}/versions/{version}/infer")


class Direct:
    """Answers inference itself; everything else goes on to the application."""

    def __init__(self, app: ASGIApp, plane: DataPlane) -> None:
        self._app = app
        self._plane = plane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        found = _PATH.fullmatch(scope["path"])
        if found is None:
            await self._app(scope, receive, send)
            return
        name, version = found.groups()
        scope["route"] = _NEWEST if version is None else _VERSION  # for whoever counts calls
        scope["path_params"] = {"name": name} | ({"version": version} if version else {})
        try:
            response = await infer(self._plane, Request(scope, receive))
        except RekindleError as error:
            response = respond(error)
        except ClientDisconnect:
            response = Response(status_code=CLIENT_LEFT)
        await response(scope, receive, send)
