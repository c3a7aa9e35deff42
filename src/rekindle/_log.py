"""Logging: one logger, `rekindle`; quiet unless REKINDLE_DEBUG or the host program asks."""

from __future__ import annotations

import functools
import logging

from rekindle import _config

logger = logging.getLogger("rekindle")
logger.addHandler(logging.NullHandler())


def debug(level: int, message: str, *args: object) -> None:
    """Log `message % args` when REKINDLE_DEBUG is at least `level`."""
    if _config.debug_level() >= level:
        logger.info(message, *args)


@functools.lru_cache(maxsize=256)
def warn_once(message: str) -> None:
    """One warning per process for each distinct message."""
    logger.warning(message)
