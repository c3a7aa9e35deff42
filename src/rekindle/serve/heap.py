"""The C library's heap, set for a server: glibc's defaults are those of a short program.

By default the pages of every large buffer go back to the system when it is freed, and the next
request takes them again, one page fault after another: more than the copy itself costs. Elsewhere
than on glibc nothing is changed.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names in malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD."""
KEPT_BYTES = 64 * 2**20
"""Free memory at the heap's end that stays ours."""
_OWN_PAGES_BYTES = 32 * 2**20
"""Buffers from this size on are mapped by themselves; glibc takes no larger value."""


def keep_freed() -> None:
    """Freed memory stays with the process, up to `KEPT_BYTES`."""
    if (library := _glibc()) is not None:
        library.mallopt(_MMAP_THRESHOLD, _OWN_PAGES_BYTES)
        library.mallopt(_TRIM_THRESHOLD, KEPT_BYTES)


def give_back() -> None:
    """Every free page goes back to the system: after a model was closed in this process."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


@functools.cache
def _glibc() -> Any:
    try:
        library = ctypes.CDLL(None)
        _ = library.gnu_get_libc_version, library.mallopt, library.malloc_trim
    except (OSError, AttributeError, TypeError):  # no glibc; Windows wants a name
        return None
    return library
