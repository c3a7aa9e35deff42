"""Random networks: whatever their shape, all passes together change no result."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import QUIET, networks
from small_models import CPU, agree

GPU = replace(CPU, name="card", family="gcn")


@settings(max_examples=80, suppress_health_check=QUIET)
@given(networks(), st.sampled_from([CPU, GPU]))
def test_passes_change_no_result(network, target) -> None:
    proto, feeds = network
    agree(proto, feeds, target=target, tolerance=1e-3)


@pytest.mark.slow
@settings(max_examples=3000, suppress_health_check=QUIET)
@given(networks(), st.sampled_from([CPU, GPU]))
def test_passes_change_no_result_at_length(network, target) -> None:
    proto, feeds = network
    agree(proto, feeds, target=target, tolerance=1e-3)
