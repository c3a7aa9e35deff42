"""What every test can rely on: its own cache folder, marks that skip with a reason, real data."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

CACHE = "REKINDLE_CACHE_DIR"
CHROMIUM = Path("/usr/bin/chromium")
REQUIRE_TOOLS = os.environ.get("REKINDLE_REQUIRE_TOOLS", "0") not in ("", "0")

# PoCL reads this at its first call; without it two workers may share one core (half the speed).
os.environ.setdefault("POCL_AFFINITY", "1")

# Annotations are checked at each call in the rooms whose tests keep to them. Not in `cli` (Typer
# reads the signatures), `images` (beartype takes BytesIO for no IO[bytes]) and `graph` (NumPy
# turns 0-dimensional arrays into scalars).
CHECKED_ROOMS = ("device", "engine", "hub", "tasks")
install_import_hook([f"rekindle.{room}" for room in CHECKED_ROOMS], "typechecker.checked")

settings.register_profile("local", deadline=None, print_blob=True)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if REQUIRE_TOOLS or os.environ.get("CI") else "local")


def pytest_configure(config: pytest.Config) -> None:
    """No test touches the user's cache; the workers of one run share a folder."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="rekindle-tests-")
        os.environ[CACHE] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("opencl") and (problem := _opencl_problem()):
        _lacks(problem)
    if item.get_closest_marker("browser") and not CHROMIUM.exists():
        _lacks(f"{CHROMIUM} is not installed (apt-get install chromium)")


@functools.cache
def _opencl_problem() -> str | None:
    """Why no OpenCL device can be used; None: there is one."""
    import pyopencl

    try:
        devices = [d for platform in pyopencl.get_platforms() for d in platform.get_devices()]
    except pyopencl.Error as error:
        return f"no OpenCL: {error}"
    return None if devices else "OpenCL has platforms but no device"


def _lacks(reason: str) -> None:
    """Skip; where REKINDLE_REQUIRE_TOOLS is set, fail: CI must not pass by leaving tests out."""
    if REQUIRE_TOOLS:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real models and photographs that REKINDLE_TEST_DATA names."""
    folder = os.environ.get("REKINDLE_TEST_DATA")
    if not folder:
        pytest.skip("REKINDLE_TEST_DATA is not set")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"REKINDLE_TEST_DATA={folder} is not a folder", pytrace=False)
    return path
