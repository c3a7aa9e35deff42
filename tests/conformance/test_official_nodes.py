"""ONNX's node tests on the drivers that CI has, counted as `make conformance` counts them."""

from __future__ import annotations

import os

import pytest
from exclusions import EXCLUDED
from official import Case, counted
from report import DRIVERS, on_driver

COUNTED = 1465
"""With onnx 1.23; a newer one may bring more."""


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(counted())


@pytest.mark.slow
def test_no_case_is_lost_and_every_exclusion_is_one(cases: list[Case]) -> None:
    assert len(cases) >= COUNTED
    assert EXCLUDED.keys() <= {c.name for c in cases}


@pytest.mark.slow
@pytest.mark.opencl
@pytest.mark.parametrize("driver", DRIVERS)
def test_nearly_all_cases_pass(driver: str) -> None:
    found = on_driver(driver)
    if found is None:
        reason = f"{driver} is not installed"
        if os.environ.get("REKINDLE_REQUIRE_TOOLS", "0") not in ("", "0"):
            pytest.fail(reason)
        pytest.skip(reason)
    assert found["passed_percent"] >= 98, found["failed"]
    assert found["wholly_on_device_percent"] >= 95, found["on_host_in_float_cases"]
