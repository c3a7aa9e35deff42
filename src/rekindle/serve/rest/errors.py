"""Every failure as the protocol has it: a status, and `{"error": "<message>"}`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from rekindle._errors import AuthenticationError, RateLimitError, RekindleError
from rekindle._log import logger
from rekindle.serve.rest.body import JSON, dumps

RETRY_AFTER_S = 1
Handler = Callable[[Request, Exception], Response | Awaitable[Response]]


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(dumps({"error": message}), status, headers, media_type=JSON)


def respond(error: RekindleError) -> Response:
    """The response for an error of ours, with what a client should do next in its headers."""
    headers = {}
    if isinstance(error, AuthenticationError):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, RateLimitError):
        headers["Retry-After"] = str(error.retry_after_s)
    elif error.http_status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    response = error_response(error.http_status, str(error), headers)
    if isinstance(error, AuthenticationError):
        # What browsers ask their reader by. A line of its own: Chromium looks for no second
        # challenge behind a comma.
        response.headers.append("WWW-Authenticate", 'Basic realm="rekindle"')
    return response


def install(app: FastAPI) -> None:
    """Answer every exception in the protocol's form."""

    async def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, RekindleError)
        return respond(error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return error_response(400, f"{where}: {first['msg']}")

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return error_response(error.status_code, str(error.detail))

    async def bug(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return error_response(500, "internal error; the server's log says more")

    app.add_exception_handler(RekindleError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, bug)
