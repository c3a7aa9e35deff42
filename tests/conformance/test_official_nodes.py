"""ONNX's node tests on the device, counted as `make conformance` counts them."""

from __future__ import annotations

import pytest
from exclusions import EXCLUDED
from official import Case, counted
from report import collect, summarize

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
def test_nearly_all_cases_pass_on_the_device() -> None:
    found = summarize(*collect("OPENCL"))
    assert found["passed_percent"] >= 98, found["failed"]
    assert found["wholly_on_device_percent"] >= 95, found["on_host_in_float_cases"]
