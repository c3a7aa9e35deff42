"""Learning-rate schedules: the factor on the peak rate as a function of training progress.

Progress is `step / steps`, in [0, 1): the trainer asks once before each step. All schedules share
a linear warm-up over the first `warmup` of the progress; after it, t runs from 0 to 1 over the
rest. Pure functions of progress, so that resuming needs no state.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable

from rekindle._errors import UsageError


def _constant(t: float) -> float:
    return 1.0


def _linear(t: float) -> float:
    return 1.0 - t


def _cosine(t: float) -> float:
    """Loshchilov and Hutter, "SGDR", ICLR 2017, equation 5, one cycle down to zero."""
    return 0.5 * (1.0 + math.cos(math.pi * t))


def _steps(t: float) -> float:
    """He et al., "Deep Residual Learning", 2016: a tenth at one half, a hundredth at 3/4."""
    return 1.0 if t < 0.5 else 0.1 if t < 0.75 else 0.01


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "steps": _steps,
}


def factor(name: str, progress: float, *, warmup: float = 0.0) -> float:
    """Factor on the peak learning rate at `progress` of the whole training.

    `warmup` is the fraction of progress spent rising linearly from 0 to 1. UsageError for an
    unknown name or a fraction outside its range.
    """
    if name not in SCHEDULES:
        near = difflib.get_close_matches(name, SCHEDULES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(SCHEDULES)}"
        raise UsageError(f"unknown learning-rate schedule {name!r}", hint=hint)
    if not 0.0 <= warmup < 1.0 or not 0.0 <= progress <= 1.0:
        raise UsageError(
            f"schedule got progress={progress}, warmup={warmup}",
            hint="progress lies in [0, 1], warmup in [0, 1)",
        )
    if progress < warmup:
        return progress / warmup
    return SCHEDULES[name]((progress - warmup) / (1.0 - warmup))
