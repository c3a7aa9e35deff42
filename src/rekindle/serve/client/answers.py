"""What went wrong, from the status that a server answered with."""

from __future__ import annotations

from rekindle import _errors
from rekindle._errors import RekindleError

_BY_STATUS: dict[int, type[RekindleError]] = {
    400: _errors.InputError,
    401: _errors.AuthenticationError,
    403: _errors.ForbiddenError,
    404: _errors.NotFoundError,
    413: _errors.InputError,
    422: _errors.ModelError,
    429: _errors.RateLimitError,
    501: _errors.NotBuiltError,
    503: _errors.BusyError,
    504: _errors.DeadlineError,
    507: _errors.MemoryLimitError,
}
_HINTS = {
    401: "set REKINDLE_API_KEY to a key of this server",
    403: "the key, or the server as it was started, does not allow this",
}


def failure(status: int, message: str) -> RekindleError:
    """The error that an HTTP status means; the message is the server's own."""
    kind = _BY_STATUS.get(status, _errors.ServerError)
    # Our server's messages bring their own hint, in brackets at the end.
    hint = None if message.endswith(")") else _HINTS.get(status)
    return kind(f"the server answered {status}: {message}", hint=hint)
