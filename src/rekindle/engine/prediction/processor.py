"""One launch on a processor: coefficients of each kernel, fitted to measured launches.

    seconds = start + arithmetic x flops / peak + constants x bytes of constants / bandwidth
              + values x other bytes / bandwidth + again x bytes read again / bandwidth

Weights come from memory in every run; what the launch before has written is mostly still in the
caches, so that it may cost less than its bytes over the memory's bandwidth. A product in tiles
reads its input once for each panel of outputs: from the second-level cache for nothing, from
behind it as far as it does not fit. The terms add up: a core that waits for memory does not
compute. `benchmarks/prediction.py` fits the coefficients, and tries them on networks that they
were not fitted on.
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
_CACHE_BYTES = 512e3
"""A core's second-level cache. Assumed; with it half of an input of that size is found again."""
OTHERS = "others"
"""The coefficients of kernels that the fitted networks do not have."""


@dataclass(frozen=True)
class Coefficients:
    """Of one kernel: seconds, and seconds for each second that the device's peaks would take."""

    start_s: float
    arithmetic: float
    constants: float
    values: float
    again: float


@functools.cache
def coefficients() -> Mapping[str, Coefficients]:
    """Those of the package, by the stem of the kernel's source."""
    package = resources.files("rekindle.engine.prediction")
    document = json.loads(package.joinpath(PATH.name).read_text(encoding="utf-8"))
    return {name: Coefficients(*row) for name, row in document["kernels"].items()}


def features(launch: Launch, rates: Rates) -> tuple[float, float, float, float]:
    """Seconds at the device's peaks: arithmetic, bytes of constants, of values, read again."""
    fixed = sum(arg.nbytes for arg in launch.args if isinstance(arg, Packed))
    fixed = min(fixed, launch.bytes_moved)
    return (
        launch.flops / rates.flops_s,
        fixed / rates.bandwidth_bytes_s,
        (launch.bytes_moved - fixed) / rates.bandwidth_bytes_s,
        _read_again(launch) / rates.bandwidth_bytes_s,
    )


def _read_again(launch: Launch) -> float:
    """Bytes of the input of a product in tiles (P x Q) that later panels find no more at hand."""
    if not {"P", "Q"} <= dict(launch.defines).keys():
        return 0.0
    nbytes = getattr(launch.args[0], "nbytes", 0)
    return float((launch.global_size[1] - 1) * nbytes * nbytes / (nbytes + _CACHE_BYTES))


def cost(launch: Launch, rates: Rates, known: Mapping[str, Coefficients]) -> Cost:
    """By the kernel's own coefficients, or by those of all others."""
    own = known.get(launch.kernel)
    by = own or known[OTHERS]
    arithmetic, constants, values, again = features(launch, rates)
    arithmetic_s = by.start_s + by.arithmetic * arithmetic
    memory_s = by.constants * constants + by.values * values + by.again * again
    share = arithmetic / arithmetic_s if arithmetic_s else 0.0
    return Cost(arithmetic_s, memory_s, "fitted" if own else "assumed", share, overlap=False)
