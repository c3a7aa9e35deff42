"""Whether a caller may do what it asks for."""

from __future__ import annotations

from typing import Literal

from rekindle._errors import AuthenticationError, ForbiddenError
from rekindle.serve.access.inflow import Inflow
from rekindle.serve.access.keys import KeyFile
from rekindle.serve.access.rates import RateLimits
from rekindle.serve.settings import Settings

Need = Literal["open", "page", "look", "infer", "admin", "metrics"]
"""What a call needs: nothing (probes of health), any key (a page's files, descriptions), or a
scope.
"""
_METERED = frozenset({"look", "infer", "admin"})


class Gate:
    """Keys and rates as the server was started; with neither, everybody passes."""

    def __init__(self, settings: Settings) -> None:
        self._keys = KeyFile(settings.api_keys) if settings.api_keys else None
        self._rates = RateLimits(settings.rate_limit) if settings.rate_limit else None
        self.max_request_bytes = settings.max_request_bytes
        self.inflow = Inflow(settings.max_pending_bytes)
        self.asks = self._keys is not None or self._rates is not None
        """Whether anything is checked at all."""

    def admit(self, need: Need, presented: str | None, address: str) -> str:
        """The caller's name, empty where keys are not asked for.

        Raises AuthenticationError (no key, or a wrong one), ForbiddenError (its scopes do not
        suffice) and RateLimitError. A wrong key counts for the address it came from.
        """
        if need == "open" or not self.asks:
            return ""
        name, failure = self._identify(need, presented)
        if self._rates is not None and (need in _METERED or failure is not None):
            self._rates.hit(f"key {name}" if name else f"address {address}")
        if failure is not None:
            raise failure
        return name

    def _identify(
        self, need: Need, presented: str | None
    ) -> tuple[str, AuthenticationError | ForbiddenError | None]:
        if self._keys is None:
            return "", None
        if not presented:
            return "", AuthenticationError(
                "this server asks for an API key", hint="Authorization: Bearer rk_..."
            )
        key = self._keys.find(presented)
        if key is None:
            return "", AuthenticationError("the API key is not known here")
        if need not in ("page", "look") and need not in key.scopes:
            return key.name, ForbiddenError(
                f"the API key {key.name!r} may not do this: it needs the scope {need}",
                hint=f"it has {', '.join(key.scopes) or 'none'}",
            )
        return key.name, None
