"""Whether others can reach the server, and what they could do there."""

from __future__ import annotations

import ipaddress

from rekindle._errors import UsageError
from rekindle._log import logger
from rekindle.serve.settings import Settings


def check_exposure(settings: Settings) -> None:
    """Warn where other machines can reach a server without keys, or keys travel in the clear.

    UsageError where anybody could load and unload models.
    """
    if is_loopback(settings.host):
        return
    if settings.api_keys is None:
        if settings.allow_model_control:
            raise UsageError(
                f"{settings.host} can be reached by others, who could load and unload models",
                hint="--api-keys FILE, or leave out --allow-model-control",
            )
        logger.warning(
            "%s can be reached by others, and everybody may ask the models; --api-keys FILE "
            "lets in only who has a key",
            settings.host,
        )
    elif settings.tls_cert is None:
        logger.warning(
            "API keys will travel unencrypted to %s; --tls-cert and --tls-key, or a proxy "
            "that speaks TLS, protect them",
            settings.host,
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
