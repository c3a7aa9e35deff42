"""The roofline: what a card can reach at best for a given amount of arithmetic and traffic.

S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model",
CACM 52(4), 2009, equation 1: attainable = min(peak, intensity x bandwidth).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rekindle._errors import UsageError
from rekindle.device.architectures import Architecture


@dataclass(frozen=True)
class Bound:
    """The best case for one piece of work, and what sets it."""

    attainable_flops_s: float
    seconds: float
    intensity_flops_byte: float
    ridge_flops_byte: float
    """The intensity from which on arithmetic is the limit."""
    limit: Literal["compute", "memory"]


def roofline(
    row: Architecture,
    *,
    flops: float,
    moved_bytes: float,
    memory_bytes: int | None = None,
    peak_fraction: float = 1.0,
    bandwidth_fraction: float = 1.0,
) -> Bound:
    """The bound for `flops` of fp32 arithmetic with `moved_bytes` to and from device memory.

    `memory_bytes` chooses among the sizes the card was sold with. The fractions say how much of
    either peak is believed reachable (`row.chip.reachable_fp32`, `reachable_bandwidth` where
    someone measured them). UsageError on negative work, on none, and on fractions outside (0, 1].
    """
    if not (flops >= 0 and moved_bytes >= 0 and flops + moved_bytes > 0):  # also catches NaN
        raise UsageError(
            f"roofline got flops={flops}, moved_bytes={moved_bytes}",
            hint="give non-negative amounts, at least one of them above zero",
        )
    for name, value in (("peak", peak_fraction), ("bandwidth", bandwidth_fraction)):
        if not 0 < value <= 1:
            raise UsageError(f"{name}_fraction={value}; expected a number above 0, at most 1")
    peak = row.fp32_flops * peak_fraction
    bandwidth = row.bandwidth_bytes_s(memory_bytes) * bandwidth_fraction
    compute_s, memory_s = flops / peak, moved_bytes / bandwidth
    seconds = max(compute_s, memory_s)
    return Bound(
        attainable_flops_s=flops / seconds,
        seconds=seconds,
        intensity_flops_byte=flops / moved_bytes if moved_bytes else float("inf"),
        ridge_flops_byte=peak / bandwidth,
        limit="compute" if compute_s >= memory_s else "memory",
    )
