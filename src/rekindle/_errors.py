"""One error family. Every message says what was given, what was expected, and what to do.

Context is added once, at the boundary that knows it (a file name, an input's name). Each class
carries the exit code the command line ends with and the HTTP status the server answers with.
"""

from __future__ import annotations


class RekindleError(Exception):
    """Base of everything Rekindle raises on purpose.

    `message` says what was given and what was expected; `hint` says what to do about it.
    """

    exit_code: int = 1
    http_status: int = 500

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(RekindleError):
    """The call itself is wrong: an unknown option value, a contradiction between arguments."""

    exit_code = 2
    http_status = 400


class NotBuiltError(UsageError):
    """The argument is part of the design, but this version, or this provider, does not have it."""

    http_status = 501


class MissingExtraError(RekindleError):
    """An optional dependency is not installed; the hint holds the exact pip command."""

    exit_code = 3
    http_status = 501


class ModelError(RekindleError):
    """The model file or its graph cannot be used: truncated, cyclic, inconsistent."""

    exit_code = 4
    http_status = 422


class UnsupportedOperatorError(ModelError):
    """The model holds operators that cannot run; the message names each of them."""


class InputError(RekindleError):
    """A feed has the wrong name, dtype, rank or shape."""

    exit_code = 5
    http_status = 400


class ImageError(InputError):
    """A file is not a picture, or is one that the limits refuse."""


class DeviceError(RekindleError):
    """No usable OpenCL device, or the driver refused something."""

    exit_code = 6
    http_status = 503


class KernelError(DeviceError):
    """A kernel did not compile or did not run; the message holds the driver's own log."""

    def __init__(
        self, message: str, *, hint: str | None = None, kernels: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.kernels = kernels
        """Names of the kernels that did not compile, where that is known."""


class MemoryLimitError(RekindleError):
    """The model needs more device memory than there is; the message names both figures."""

    exit_code = 7
    http_status = 507


class CardError(ModelError):
    """A model card is malformed or does not fit its model."""


class NotFoundError(RekindleError):
    """A file, model or name does not exist; near names are offered where there are any."""

    exit_code = 8
    http_status = 404


class ForbiddenError(RekindleError):
    """The server does not allow this call as it was started, or to this caller."""

    exit_code = 9
    http_status = 403


class AuthenticationError(ForbiddenError):
    """The server asks for an API key, and there was none, or a wrong one."""

    http_status = 401


class BusyError(RekindleError):
    """The server is full, draining, loading, or restarting a worker: try again later."""

    exit_code = 10
    http_status = 503


class RateLimitError(BusyError):
    """One caller has asked too often; others are served."""

    http_status = 429

    def __init__(self, message: str, *, hint: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(message, hint=hint or f"again in {retry_after_s} s")
        self.retry_after_s = retry_after_s
        """When asking again will help, in whole seconds."""


class DeadlineError(RekindleError):
    """The answer was not ready within the request's deadline."""

    exit_code = 11
    http_status = 504


class ServerError(RekindleError):
    """A server answered a client with a failure that no other error here stands for."""

    exit_code = 14
    http_status = 502


class UnreachableError(RekindleError):
    """No server answers at that address, or what answers there is no model server."""

    exit_code = 15
    http_status = 502
