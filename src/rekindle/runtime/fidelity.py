"""How near the outputs of one precision are to those of another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rekindle.graph.ir import Array


@dataclass(frozen=True)
class Fidelity:
    """`snr_db`: signal to noise over all elements, infinite where there is no noise.

    `agreement`: the share of rows (along the last axis) whose largest element is the same.
    """

    snr_db: float
    agreement: float


def fidelity(found: Array, expected: Array) -> Fidelity:
    """Two arrays of floats of one shape; not finite elements count as noise where they differ."""
    signal, wanted = found.astype(np.float64), expected.astype(np.float64)
    same = (signal == wanted) | (np.isnan(signal) & np.isnan(wanted))
    with np.errstate(invalid="ignore", over="ignore"):
        noise = float(np.square(np.where(same, 0.0, signal - wanted)).sum())
        power = float(np.square(np.where(np.isfinite(wanted), wanted, 0.0)).sum())
    agreement = 1.0
    if wanted.ndim and wanted.size:
        agreement = float(np.mean(signal.argmax(-1) == wanted.argmax(-1)))
    if noise == 0:
        return Fidelity(math.inf, agreement)
    if not math.isfinite(noise) or power == 0:
        return Fidelity(-math.inf, agreement)
    return Fidelity(10 * math.log10(power / noise), agreement)
