"""Freed memory stays while a server runs, and goes when it is told to."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
from rekindle.serve import heap
from rekindle.serve.worker.opening import resident_bytes

heap.keep_freed()
tensors = [bytes([1]) * 600_000 for _ in range(60)]
full = resident_bytes()
del tensors
kept = resident_bytes()
heap.give_back()
print(full, kept, resident_bytes())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_pages_stay_until_they_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    full, kept, left = map(int, done.stdout.split())
    assert full - kept < 5_000_000
    assert kept - left > 25_000_000
