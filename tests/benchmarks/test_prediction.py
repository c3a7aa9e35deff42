"""The prediction benchmark: its statistics against worked examples, and its fit against itself."""

from __future__ import annotations

import numpy as np
import pytest
from prediction import Sample, fit, nonnegative, rank_correlation

from rekindle.engine.kernels import Launch, Packed, Workspace
from rekindle.engine.prediction import processor
from rekindle.engine.prediction.rates import of_processor

RATES = of_processor("a processor", 100e9, 10e9, 5e-6, 2)


def test_ranks_with_ties() -> None:
    """Spearman's rho of a textbook's table, 1 - 6 * 194 / (10 * 99), and of tied values."""
    iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert rank_correlation(iq, hours) == pytest.approx(1 - 6 * 194 / 990)
    assert rank_correlation([1, 2, 2, 3], [10, 20, 20, 90]) == pytest.approx(1)
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5.
    assert rank_correlation([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


def test_coefficients_are_not_negative() -> None:
    a = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert nonnegative(a, np.array([2.0, 3.0, 5.0])) == pytest.approx([2, 3])
    # By least squares (1, -2); without the second column the first alone gives 1 - 1 / 2 * 2 = 0.
    assert nonnegative(a, np.array([1.0, -2.0, -1.0])) == pytest.approx([0, 0])
    assert nonnegative(a, np.array([3.0, -1.0, 2.0])) == pytest.approx([2.5, 0])


def test_the_fit_finds_what_times_were_made_of() -> None:
    rng = np.random.default_rng(0)
    known = processor.Coefficients(3e-6, 1.5, 2.0, 0.5, 0.75)
    samples = []
    for flops, fixed, moved, panels in rng.integers(1, 10**7, (40, 4)):
        weights = Packed("w", int(fixed), lambda: np.zeros(1, np.float32))
        x = Workspace("x", int(moved))
        tile, grid = (("P", "6"), ("Q", "1")), (1, 1 + int(panels) % 9, 1)
        work = int(flops), int(fixed + moved)
        made = Launch("conv_tiled", "conv", tile, (x, weights), grid, None, *work)
        seconds = processor.cost(made, RATES, {"conv_tiled": known}).seconds
        samples.append(Sample("n", made, seconds))
    found = fit(samples, RATES)
    assert set(found) == {"conv_tiled", processor.OTHERS}
    assert found["conv_tiled"].start_s == pytest.approx(3e-6, rel=1e-3)
    assert found["conv_tiled"].arithmetic == pytest.approx(1.5, rel=1e-3)
    assert found["conv_tiled"].constants == pytest.approx(2.0, rel=1e-3)
    assert found["conv_tiled"].values == pytest.approx(0.5, rel=1e-3)
    assert found["conv_tiled"].again == pytest.approx(0.75, rel=1e-3)
