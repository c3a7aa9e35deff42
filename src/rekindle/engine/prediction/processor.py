"""One launch on a processor: coefficients of each kernel, fitted to measured launches.

    seconds = start + flops / (flops_share x peak) + constant bytes / (stream_share x bandwidth)
              + other bytes / (cache_share x bandwidth)

Weights come from memory in every run; what the launch before has written is mostly still in the
caches, so that its share of the memory's bandwidth may exceed 1. The terms add up: a core that
waits for memory does not compute. `benchmarks/prediction.py` fits them on some networks and tries
them on others.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rekindle.engine.kernels import Launch, Packed
from rekindle.engine.prediction.card import Cost
from rekindle.engine.prediction.rates import Rates

PATH = Path(__file__).with_name("processor.json")
OTHERS = "others"
"""The coefficients of kernels that the fitted networks do not have."""


@dataclass(frozen=True)
class Coefficients:
    """Of one kernel: seconds, and seconds for each second that the device's peaks would take."""

    start_s: float
    arithmetic: float
    constants: float
    values: float


@functools.cache
def coefficients() -> Mapping[str, Coefficients]:
    """Those of the package, by the stem of the kernel's source."""
    package = resources.files("rekindle.engine.prediction")
    document = json.loads(package.joinpath(PATH.name).read_text(encoding="utf-8"))
    return {name: Coefficients(*row) for name, row in document["kernels"].items()}


def features(launch: Launch, rates: Rates) -> tuple[float, float, float]:
    """Seconds at the device's peaks: arithmetic, bytes of constants, bytes of values."""
    fixed = sum(arg.nbytes for arg in launch.args if isinstance(arg, Packed))
    fixed = min(fixed, launch.bytes_moved)
    return (
        launch.flops / rates.flops_s,
        fixed / rates.bandwidth_bytes_s,
        (launch.bytes_moved - fixed) / rates.bandwidth_bytes_s,
    )


def cost(launch: Launch, rates: Rates, known: Mapping[str, Coefficients]) -> Cost:
    """By the kernel's own coefficients, or by those of all others."""
    own = known.get(launch.kernel)
    by = own or known[OTHERS]
    arithmetic, constants, values = features(launch, rates)
    arithmetic_s = by.start_s + by.arithmetic * arithmetic
    memory_s = by.constants * constants + by.values * values
    share = arithmetic / arithmetic_s if arithmetic_s else 0.0
    return Cost(arithmetic_s, memory_s, "fitted" if own else "assumed", share, overlap=False)
